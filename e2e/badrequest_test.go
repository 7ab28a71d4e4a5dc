package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// wantCode fails the test unless err has a code.
func wantCode(t *testing.T, err error, want wasmatrix.Code, words ...string) {
	t.Helper()
	if wasmatrix.CodeOf(err) != want {
		t.Errorf("got %v, want %s", err, want)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// wantFailure fails the test unless a command of the CLI ended with an exit code
// and an error of a code that has some words.
func wantFailure(t *testing.T, res harness.CLIResult, exit int, code wasmatrix.Code, words ...string) {
	t.Helper()
	if res.Code != exit {
		t.Errorf("exit %d, want %d\n%s%s", res.Code, exit, res.Stdout, res.Stderr)
	}
	for _, w := range append(words, "error: "+string(code)+": ") {
		if !strings.Contains(res.Stderr, w) {
			t.Errorf("stderr does not say %q:\n%s", w, res.Stderr)
		}
	}
}

const (
	lowModule  = 64 << 10
	lowRequest = 64 << 10
)

// TestBadRequests sends what no server accepts, each with its code, over one
// cluster that must be none the worse for it.
func TestBadRequests(t *testing.T) {
	c := harness.Start(t, harness.Options{
		Servers: 1, Nodes: 1,
		ServerExtra: `max_module = "64KiB"`, Extra: `limits { max_request = "64KiB" }`,
	})
	cl := c.Client()
	digest, err := harness.Push(t.Context(), cl, reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("module", func(t *testing.T) { badModules(t, c, cl) })
	t.Run("start", func(t *testing.T) { badStarts(t, cl, digest) })
	t.Run("unknown", func(t *testing.T) { unknownThings(t, cl) })
	t.Run("cli", func(t *testing.T) { badCommands(t, c) })
	t.Run("wire", func(t *testing.T) { badWire(t, c.Servers[0].API()) })

	list, err := harness.List(t.Context(), cl)
	if err != nil || len(list) != 0 {
		t.Errorf("instances after nothing but bad requests: %v, %v", list, err)
	}
	load := harness.NewLoad(cl, digest, "good")
	background(t, load, 2, 4)()
	c.AssertRunningOnce(cl, load.IDs())
}

// badModules pushes and starts what is no module that runs here.
func badModules(t *testing.T, c *harness.Cluster, cl *client.Client) {
	for name, test := range map[string]struct {
		content string
		code    wasmatrix.Code
		words   string
	}{
		"empty":     {"", wasmatrix.CodeInvalidRequest, "empty"},
		"text":      {"Dear reader,\nthis is no module.\n", wasmatrix.CodeInvalidRequest, "looks like a text file"},
		"wat":       {"(module)", wasmatrix.CodeInvalidRequest, "wat2wasm"},
		"truncated": {wasmEnds[:len(wasmEnds)-3], wasmatrix.CodeInvalidRequest, "truncated"},
		"component": {wasmComponent, wasmatrix.CodeValidation, "component"},
		"too large": {padded(lowModule), wasmatrix.CodeResourceExhausted, "at most 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, "module.wasm", test.content)
			res := c.TryCLI(c.Servers[0], "module", "push", path)
			wantFailure(t, res, 1, test.code, test.words)
			res = c.TryCLI(c.Servers[0], "run", path)
			wantFailure(t, res, 1, test.code, test.words)
			// The server itself must refuse it, not only the CLI.
			_, err := harness.Push(t.Context(), cl, path)
			wantCode(t, err, test.code)
			if strings.Contains(name, "large") {
				return // over the limit of a request, too
			}
			_, err = cl.Instances.StartInstance(t.Context(), &api.StartInstanceRequest{
				Module: &api.StartInstanceRequest_ModuleBytes{ModuleBytes: []byte(test.content)},
			})
			wantCode(t, err, test.code)
		})
	}
	t.Run("bytes over the limit", func(t *testing.T) {
		_, err := cl.Instances.StartInstance(t.Context(), &api.StartInstanceRequest{
			Module: &api.StartInstanceRequest_ModuleBytes{ModuleBytes: []byte(padded(lowModule))},
		})
		wantCode(t, err, wasmatrix.CodeResourceExhausted)
	})
	t.Run("other bytes than said", func(t *testing.T) {
		stream, err := cl.Modules.PushModule(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		digest := wasmatrix.DigestOf([]byte("something else"))
		header := &api.PushModuleHeader{Digest: digest.String(), SizeBytes: int64(len(wasmEnds))}
		for _, m := range []*api.PushModuleRequest{
			{Part: &api.PushModuleRequest_Header{Header: header}},
			{Part: &api.PushModuleRequest_Data{Data: []byte(wasmEnds)}},
		} {
			if err := stream.Send(m); err != nil {
				break // the answer says why
			}
		}
		_, err = stream.CloseAndReceive()
		wantCode(t, err, wasmatrix.CodeInvalidRequest)
	})
}

// badStarts starts a module that is there, with something else wrong.
func badStarts(t *testing.T, cl *client.Client, digest string) {
	grant := func(id, typ string, permissions ...string) func(*api.StartInstanceRequest) {
		return func(r *api.StartInstanceRequest) {
			r.Capabilities = []*api.CapabilityGrant{{CapabilityId: id, Type: typ, Permissions: permissions}}
		}
	}
	for name, test := range map[string]struct {
		code  wasmatrix.Code
		field string
		spoil func(*api.StartInstanceRequest)
	}{
		"no module":       {wasmatrix.CodeInvalidRequest, "module", func(r *api.StartInstanceRequest) { r.Module = nil }},
		"bad instance ID": {wasmatrix.CodeInvalidRequest, "instance_id", func(r *api.StartInstanceRequest) { r.InstanceId = "a b" }},
		"bad request ID":  {wasmatrix.CodeInvalidRequest, "", func(r *api.StartInstanceRequest) { r.RequestId = "a b" }},
		"bad label":       {wasmatrix.CodeValidation, "labels", func(r *api.StartInstanceRequest) { r.Labels = map[string]string{"no good": "x"} }},
		"long label":      {wasmatrix.CodeValidation, "labels", func(r *api.StartInstanceRequest) { r.Labels = map[string]string{"a": strings.Repeat("x", 257)} }},
		"bad constraint":  {wasmatrix.CodeValidation, "constraints", func(r *api.StartInstanceRequest) { r.Constraints = []string{"zone in ("} }},
		"unknown policy":  {wasmatrix.CodeValidation, "restart.mode", func(r *api.StartInstanceRequest) { r.Restart = &api.RestartPolicy{Mode: 42} }},
		"bad backoff": {wasmatrix.CodeValidation, "restart.backoff.multiplier", func(r *api.StartInstanceRequest) {
			r.Restart.Backoff = &api.Backoff{Multiplier: 0.5}
		}},
		"memory of no pages":  {wasmatrix.CodeValidation, "limits.memory", func(r *api.StartInstanceRequest) { r.Limits = &api.Limits{MemoryBytes: 65537} }},
		"memory over 4 GiB":   {wasmatrix.CodeValidation, "limits.memory", func(r *api.StartInstanceRequest) { r.Limits = &api.Limits{MemoryBytes: 8 << 30} }},
		"too much CPU":        {wasmatrix.CodeValidation, "limits.cpu", func(r *api.StartInstanceRequest) { r.Limits = &api.Limits{CpuMillis: 2_000_000} }},
		"negative deadline":   {wasmatrix.CodeValidation, "limits.deadline", func(r *api.StartInstanceRequest) { r.Limits = &api.Limits{Deadline: durationpb.New(-1)} }},
		"too many at once":    {wasmatrix.CodeValidation, "count", func(r *api.StartInstanceRequest) { r.Count = 10_001 }},
		"environment":         {wasmatrix.CodeValidation, "env", func(r *api.StartInstanceRequest) { r.Env = map[string]string{"a=b": "c"} }},
		"unknown permission":  {wasmatrix.CodeValidation, "", grant("store", "kv", "kv:fly")},
		"empty permissions":   {wasmatrix.CodeInvalidRequest, "", grant("store", "kv")},
		"empty capability ID": {wasmatrix.CodeInvalidRequest, "", grant("", "kv", "kv:read")},
		"unknown capability":  {wasmatrix.CodeValidation, "", grant("store", "teleport", "kv:read")},
		"too many arguments":  {wasmatrix.CodeValidation, "args", func(r *api.StartInstanceRequest) { r.Args = make([]string, 257) }},
	} {
		t.Run(name, func(t *testing.T) {
			req := &api.StartInstanceRequest{
				Module:  &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest},
				Restart: &api.RestartPolicy{Mode: api.RestartMode_RESTART_MODE_ON_FAILURE},
			}
			test.spoil(req)
			_, err := cl.Instances.StartInstance(t.Context(), req)
			wantCode(t, err, test.code)
			if got := wasmatrix.AsError(err); test.field != "" && got != nil && got.Details[wasmatrix.DetailField] != test.field {
				t.Errorf("field %q, want %q: %v", got.Details[wasmatrix.DetailField], test.field, err)
			}
		})
	}
}

// unknownThings asks for what is not there.
func unknownThings(t *testing.T, cl *client.Client) {
	const id = "nobody"
	digest := wasmatrix.DigestOf([]byte("never pushed")).String()
	for name, test := range map[string]struct {
		code wasmatrix.Code
		call func(context.Context) error
	}{
		"query": {wasmatrix.CodeInstanceNotFound, func(ctx context.Context) error {
			_, err := cl.Instances.QueryInstance(ctx, &api.QueryInstanceRequest{InstanceId: id})
			return err
		}},
		"stop": {wasmatrix.CodeInstanceNotFound, func(ctx context.Context) error {
			_, err := cl.Instances.StopInstance(ctx, &api.StopInstanceRequest{InstanceId: id})
			return err
		}},
		"restart": {wasmatrix.CodeInstanceNotFound, func(ctx context.Context) error {
			_, err := cl.Instances.RestartInstance(ctx, &api.RestartInstanceRequest{InstanceId: id})
			return err
		}},
		"crashes": {wasmatrix.CodeInstanceNotFound, func(ctx context.Context) error {
			_, err := cl.Instances.GetCrashInfo(ctx, &api.GetCrashInfoRequest{InstanceId: id})
			return err
		}},
		"logs": {wasmatrix.CodeInstanceNotFound, func(ctx context.Context) error {
			stream, err := cl.Instances.StreamLogs(ctx, &api.StreamLogsRequest{InstanceId: id})
			if err != nil {
				return err
			}
			defer stream.Close()
			for stream.Receive() {
			}
			return stream.Err()
		}},
		"empty ID": {wasmatrix.CodeInvalidRequest, func(ctx context.Context) error {
			_, err := cl.Instances.QueryInstance(ctx, &api.QueryInstanceRequest{})
			return err
		}},
		"node": {wasmatrix.CodeNodeNotFound, func(ctx context.Context) error {
			_, err := cl.Nodes.GetNode(ctx, &api.GetNodeRequest{NodeId: id})
			return err
		}},
		"module": {wasmatrix.CodeModuleNotFound, func(ctx context.Context) error {
			_, err := cl.Modules.InspectModule(ctx, &api.InspectModuleRequest{Module: digest})
			return err
		}},
		"module to remove": {wasmatrix.CodeModuleNotFound, func(ctx context.Context) error {
			_, err := cl.Modules.RemoveModule(ctx, &api.RemoveModuleRequest{Module: id})
			return err
		}},
		"start by digest": {wasmatrix.CodeModuleNotFound, func(ctx context.Context) error {
			_, err := cl.Instances.StartInstance(ctx, &api.StartInstanceRequest{Module: &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest}})
			return err
		}},
		"start by name": {wasmatrix.CodeModuleNotFound, func(ctx context.Context) error {
			_, err := cl.Instances.StartInstance(ctx, &api.StartInstanceRequest{Module: &api.StartInstanceRequest_ModuleName{ModuleName: id}})
			return err
		}},
		"peer to remove": {wasmatrix.CodeNodeNotFound, func(ctx context.Context) error {
			_, err := cl.Cluster.RemovePeer(ctx, &api.RemovePeerRequest{Server: id})
			return err
		}},
		"peer to lead": {wasmatrix.CodeNodeNotFound, func(ctx context.Context) error {
			_, err := cl.Cluster.TransferLeadership(ctx, &api.TransferLeadershipRequest{Server: id})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, test.call(t.Context()), test.code) })
	}
}

// badCommands gives the CLI what it or the server refuses.
func badCommands(t *testing.T, c *harness.Cluster) {
	s := c.Servers[0]
	for name, test := range map[string]struct {
		exit int
		code wasmatrix.Code
		args []string
	}{
		"unknown command":    {2, wasmatrix.CodeInvalidRequest, []string{"frob"}},
		"unknown flag":       {2, wasmatrix.CodeInvalidRequest, []string{"ps", "--frob"}},
		"bad policy":         {2, wasmatrix.CodeInvalidRequest, []string{"run", reactor(t), "--restart", "sometimes"}},
		"bad memory":         {2, wasmatrix.CodeInvalidRequest, []string{"run", reactor(t), "--memory", "lots"}},
		"odd memory":         {1, wasmatrix.CodeValidation, []string{"run", reactor(t), "--memory", "65537"}},
		"bad label":          {1, wasmatrix.CodeValidation, []string{"run", reactor(t), "--label", "no good=x"}},
		"unknown permission": {2, wasmatrix.CodeInvalidRequest, []string{"run", reactor(t), "--cap", "store=kv:kv:fly"}},
		"unknown instance":   {1, wasmatrix.CodeInstanceNotFound, []string{"logs", "nobody"}},
		"no such file":       {1, wasmatrix.CodeModuleNotFound, []string{"run", "./nothing.wasm"}},
	} {
		t.Run(name, func(t *testing.T) {
			wantFailure(t, c.TryCLI(s, test.args...), test.exit, test.code)
			res := c.TryCLI(s, append(test.args, "-o", "json")...)
			var e struct{ Code, Message, Time string }
			if err := json.Unmarshal([]byte(res.Stderr), &e); err != nil || e.Code != string(test.code) || e.Message == "" || e.Time == "" || res.Code != test.exit {
				t.Errorf("as JSON: exit %d, %v: %s", res.Code, err, res.Stderr)
			}
		})
	}
}

// badWire sends what is no request at all.
func badWire(t *testing.T, base string) {
	const query = "/wasmatrix.v1.InstanceService/QueryInstance"
	good, err := proto.Marshal(&api.QueryInstanceRequest{InstanceId: "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		method, path, contentType string
		body                      []byte
		status                    int
		code                      wasmatrix.Code
	}{
		"control":              {"POST", query, "application/proto", good, 404, wasmatrix.CodeInstanceNotFound},
		"malformed protobuf":   {"POST", query, "application/proto", []byte("\x0a\xff\xff"), 400, wasmatrix.CodeInvalidRequest},
		"malformed JSON":       {"POST", query, "application/json", []byte(`{"instanceId": "x`), 400, wasmatrix.CodeInvalidRequest},
		"misspelt field":       {"POST", query, "application/json", []byte(`{"instance": "x"}`), 400, wasmatrix.CodeInvalidRequest},
		"unknown method":       {"POST", "/wasmatrix.v1.InstanceService/Frob", "application/json", []byte(`{}`), 404, wasmatrix.CodeInvalidRequest},
		"unknown service":      {"POST", "/nothing", "application/json", []byte(`{}`), 404, wasmatrix.CodeInvalidRequest},
		"wrong content type":   {"POST", query, "text/plain", []byte(`{}`), 415, wasmatrix.CodeInvalidRequest},
		"wrong HTTP method":    {"PUT", query, "application/json", []byte(`{}`), 405, wasmatrix.CodeInvalidRequest},
		"huge request":         {"POST", query, "application/json", huge(lowRequest + 1), 429, wasmatrix.CodeResourceExhausted},
		"very huge request":    {"POST", query, "application/json", huge(8 << 20), 429, wasmatrix.CodeResourceExhausted},
		"request at the limit": {"POST", query, "application/json", huge(lowRequest), 404, wasmatrix.CodeInstanceNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), test.method, base+test.path, bytes.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", test.contentType)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != test.status || res.Header.Get("Wasmatrix-Code") != string(test.code) {
				t.Errorf("status %d and code %q, want %d and %q: %s", res.StatusCode, res.Header.Get("Wasmatrix-Code"), test.status, test.code, body)
			}
			if _, err := decodeAnswer(body); codeOf(err) != string(test.code) {
				t.Errorf("the detail has %v, want %s", err, test.code)
			}
		})
	}
}

// huge is a good request of n bytes, most of them white space.
func huge(n int) []byte {
	const begin, end = `{"instanceId":"nobody"`, `}`
	return []byte(begin + strings.Repeat(" ", n-len(begin)-len(end)) + end)
}
