package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"testing"

	"connectrpc.com/connect"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
)

// caller makes one call of InstanceService and decodes the answer's JSON form.
type caller func(ctx context.Context, method string, request map[string]any) (map[string]any, error)

// TestSameProgramOverEveryProtocol runs one client program over Connect, gRPC
// and plain HTTP with JSON, against a follower.
func TestSameProgramOverEveryProtocol(t *testing.T) {
	c := harness.Start(t, harness.Options{Servers: 3, Nodes: 1})
	digest, err := harness.Push(t.Context(), c.Client(), reactor(t))
	if err != nil {
		t.Fatal(err)
	}
	follower := c.Followers()[0].API()
	h2c := &http.Client{Transport: &http.Transport{Protocols: unencryptedHTTP2()}}
	callers := map[string]caller{
		"connect":       typed(apiconnect.NewInstanceServiceClient(http.DefaultClient, follower)),
		"connect-http2": typed(apiconnect.NewInstanceServiceClient(h2c, follower)),
		"grpc":          typed(apiconnect.NewInstanceServiceClient(h2c, follower, connect.WithGRPC())),
		"grpc-web":      typed(apiconnect.NewInstanceServiceClient(http.DefaultClient, follower, connect.WithGRPCWeb())),
		"json":          overHTTP(follower),
	}
	if _, err := exec.LookPath("curl"); err == nil {
		callers["curl"] = overCurl(follower)
	} else {
		t.Log("curl is not installed: its part is covered by the JSON client only")
	}
	for name, call := range callers {
		t.Run(name, func(t *testing.T) { program(t, call, name, digest) })
	}
}

func unencryptedHTTP2() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// program starts an instance, retries the start, waits until it runs, asks for
// one that does not exist, and stops it.
func program(t *testing.T, call caller, name, digest string) {
	ctx, id := t.Context(), "via-"+name
	start := map[string]any{"requestId": "start-" + id, "instanceId": id, "moduleDigest": digest}
	res, err := call(ctx, "StartInstance", start)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	if res["instanceId"] != id || res["duplicate"] == true {
		t.Errorf("start answered %v", res)
	}
	if res, err = call(ctx, "StartInstance", start); err != nil || res["instanceId"] != id || res["duplicate"] != true {
		t.Errorf("retried start answered %v, %v", res, err)
	}
	start["args"] = []any{"other"}
	if _, err = call(ctx, "StartInstance", start); codeOf(err) != "CONFLICT" {
		t.Errorf("request ID reused with another body: %v", err)
	}
	harness.Eventually(t, id+" running", func(ctx context.Context) error {
		res, err := call(ctx, "QueryInstance", map[string]any{"instanceId": id})
		if err != nil {
			return err
		}
		if in, _ := res["instance"].(map[string]any); in["status"] != "INSTANCE_STATUS_RUNNING" {
			return fmt.Errorf("it is %v", in["status"])
		}
		return nil
	})
	_, err = call(ctx, "QueryInstance", map[string]any{"instanceId": "nobody"})
	if codeOf(err) != "INSTANCE_NOT_FOUND" {
		t.Errorf("unknown instance: %v", err)
	}
	res, err = call(ctx, "StopInstance", map[string]any{"requestId": "stop-" + id, "instanceId": id})
	if err != nil {
		t.Fatalf("stop: %v", err)
	}
	if in, _ := res["instance"].(map[string]any); in["status"] != "INSTANCE_STATUS_STOPPED" {
		t.Errorf("stop answered %v", res)
	}
}

// apiError is a failure in the form that programs see.
type apiError struct{ code, message string }

func (e apiError) Error() string { return e.code + ": " + e.message }

func codeOf(err error) string {
	if e, ok := err.(apiError); ok { //nolint:errorlint // made below, never wrapped
		return e.code
	}
	return ""
}

// typed calls through a generated client.
func typed(cl apiconnect.InstanceServiceClient) caller {
	return func(ctx context.Context, method string, request map[string]any) (map[string]any, error) {
		body, err := json.Marshal(request)
		if err != nil {
			return nil, err
		}
		switch method {
		case "StartInstance":
			return invoke(ctx, cl.StartInstance, body, &api.StartInstanceRequest{})
		case "QueryInstance":
			return invoke(ctx, cl.QueryInstance, body, &api.QueryInstanceRequest{})
		case "StopInstance":
			return invoke(ctx, cl.StopInstance, body, &api.StopInstanceRequest{})
		}
		return nil, fmt.Errorf("no method %s", method)
	}
}

// overHTTP posts JSON as any HTTP client would.
func overHTTP(base string) caller {
	return func(ctx context.Context, method string, request map[string]any) (map[string]any, error) {
		body, err := json.Marshal(request)
		if err != nil {
			return nil, err
		}
		target, err := url.JoinPath(base, "wasmatrix.v1.InstanceService", method)
		if err != nil {
			return nil, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		out, err := io.ReadAll(res.Body)
		if err != nil {
			return nil, err
		}
		return decodeAnswer(out)
	}
}

// overCurl runs curl.
func overCurl(base string) caller {
	return func(ctx context.Context, method string, request map[string]any) (map[string]any, error) {
		body, err := json.Marshal(request)
		if err != nil {
			return nil, err
		}
		out, err := exec.CommandContext(ctx, "curl", "-sS", "-H", "Content-Type: application/json",
			"-d", string(body), base+"/wasmatrix.v1.InstanceService/"+method).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("curl: %w: %s", err, out)
		}
		return decodeAnswer(out)
	}
}

// decodeAnswer reads an answer, or an error with our detail in its debug form.
func decodeAnswer(body []byte) (map[string]any, error) {
	var res map[string]any
	if err := json.Unmarshal(body, &res); err != nil {
		return nil, fmt.Errorf("%w: %s", err, body)
	}
	if _, failed := res["code"].(string); !failed {
		return res, nil
	}
	details, _ := res["details"].([]any)
	for _, d := range details {
		detail, _ := d.(map[string]any)
		if detail["type"] != "wasmatrix.v1.Error" {
			continue
		}
		debug, _ := detail["debug"].(map[string]any)
		code, _ := debug["code"].(string)
		message, _ := debug["message"].(string)
		return nil, apiError{code, message}
	}
	return nil, fmt.Errorf("an error without our detail: %s", body)
}
