package rpc_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/rpctest"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// invalid are requests that must be refused, each with its code, and with the
// field that is named where that is not "".
var invalid = []struct {
	name, procedure, body string
	code                  wasmatrix.Code
	field                 string
}{
	{"no module", "InstanceService/StartInstance", `{}`, "INVALID_REQUEST", "module"},
	{"empty module", "InstanceService/StartInstance", `{"moduleBytes":""}`, "INVALID_REQUEST", "module"},
	{"text as module", "InstanceService/StartInstance", `{"moduleBytes":"aGVsbG8sIHdvcmxk"}`, "INVALID_REQUEST", ""},
	{"component", "InstanceService/StartInstance", `{"moduleBytes":"AGFzbQ0AAQA="}`, "VALIDATION_ERROR", ""},
	{"truncated module", "InstanceService/StartInstance", `{"moduleBytes":"AGFzbQ=="}`, "INVALID_REQUEST", ""},
	{"bad digest", "InstanceService/StartInstance", `{"moduleDigest":"sha256:12"}`, "INVALID_REQUEST", "module_digest"},
	{"unknown digest", "InstanceService/StartInstance", `{"moduleDigest":"sha256:` + strings.Repeat("ab", 32) + `"}`, "MODULE_NOT_FOUND", ""},
	{"empty module name", "InstanceService/StartInstance", `{"moduleName":""}`, "INVALID_REQUEST", "module_name"},
	{"unknown module name", "InstanceService/StartInstance", `{"moduleName":"nope"}`, "MODULE_NOT_FOUND", ""},
	{"bad instance ID", "InstanceService/StartInstance", `{"moduleName":"m","instanceId":"-x"}`, "INVALID_REQUEST", "instance_id"},
	{"instance ID too long with its suffix", "InstanceService/StartInstance", `{"moduleName":"m","count":10,"instanceId":"` + strings.Repeat("x", 62) + `"}`, "INVALID_REQUEST", "instance_id"},
	{"too many", "InstanceService/StartInstance", `{"moduleName":"m","count":10001}`, "VALIDATION_ERROR", "count"},
	{"bad request ID", "InstanceService/StartInstance", `{"moduleName":"m","requestId":"a b"}`, "INVALID_REQUEST", "request_id"},
	{"bad constraint", "InstanceService/StartInstance", `{"moduleName":"m","constraints":["zone in a,b"]}`, "VALIDATION_ERROR", "constraints"},
	{"bad label", "InstanceService/StartInstance", `{"moduleName":"m","labels":{"a b":"c"}}`, "VALIDATION_ERROR", "labels"},
	{"bad environment", "InstanceService/StartInstance", `{"moduleName":"m","env":{"A=B":"c"}}`, "VALIDATION_ERROR", "env"},
	{"memory not of pages", "InstanceService/StartInstance", `{"moduleName":"m","limits":{"memoryBytes":"65537"}}`, "VALIDATION_ERROR", "limits.memory"},
	{"memory too large", "InstanceService/StartInstance", `{"moduleName":"m","limits":{"memoryBytes":"8589934592"}}`, "VALIDATION_ERROR", "limits.memory"},
	{"CPU too large", "InstanceService/StartInstance", `{"moduleName":"m","limits":{"cpuMillis":2000000}}`, "VALIDATION_ERROR", "limits.cpu"},
	{"negative deadline", "InstanceService/StartInstance", `{"moduleName":"m","limits":{"deadline":"-1s"}}`, "VALIDATION_ERROR", "limits.deadline"},
	{"unknown restart mode", "InstanceService/StartInstance", `{"moduleName":"m","restart":{"mode":17}}`, "VALIDATION_ERROR", "restart.mode"},
	{"multiplier below one", "InstanceService/StartInstance", `{"moduleName":"m","restart":{"backoff":{"multiplier":0.5}}}`, "VALIDATION_ERROR", "restart.backoff.multiplier"},
	{"jitter above one", "InstanceService/StartInstance", `{"moduleName":"m","restart":{"backoff":{"jitter":1.5}}}`, "VALIDATION_ERROR", "restart.backoff.jitter"},
	{"longest backoff below the first", "InstanceService/StartInstance", `{"moduleName":"m","restart":{"backoff":{"initial":"9s","max":"1s"}}}`, "VALIDATION_ERROR", "restart.backoff.max"},
	{"bad policy beside an unknown module", "InstanceService/StartInstance", `{"moduleName":"nope","restart":{"backoff":{"jitter":2}}}`, "VALIDATION_ERROR", "restart.backoff.jitter"},
	{"empty capability ID", "InstanceService/StartInstance", `{"moduleName":"m","capabilities":[{"type":"kv","permissions":["kv:read"]}]}`, "INVALID_REQUEST", ""},
	{"no permissions", "InstanceService/StartInstance", `{"moduleName":"m","capabilities":[{"capabilityId":"c","type":"kv"}]}`, "INVALID_REQUEST", "permissions"},
	{"capability twice", "InstanceService/StartInstance", `{"moduleName":"m","capabilities":[{"capabilityId":"c","type":"kv","permissions":["kv:read"]},{"capabilityId":"c","type":"kv","permissions":["kv:read"]}]}`, "VALIDATION_ERROR", "capabilities"},

	{"stop without ID", "InstanceService/StopInstance", `{}`, "INVALID_REQUEST", "instance_id"},
	{"stop of what is not there", "InstanceService/StopInstance", `{"instanceId":"i"}`, "INSTANCE_NOT_FOUND", ""},
	{"stop with a negative timeout", "InstanceService/StopInstance", `{"instanceId":"i","timeout":"-1s"}`, "VALIDATION_ERROR", "timeout"},
	{"restart without ID", "InstanceService/RestartInstance", `{}`, "INVALID_REQUEST", "instance_id"},
	{"restart of what is not there", "InstanceService/RestartInstance", `{"instanceId":"i"}`, "INSTANCE_NOT_FOUND", ""},
	{"restart of what is final", "InstanceService/RestartInstance", `{"instanceId":"final"}`, "RESTART_POLICY_VIOLATION", ""},
	{"query without ID", "InstanceService/QueryInstance", `{}`, "INVALID_REQUEST", "instance_id"},
	{"query of what is not there", "InstanceService/QueryInstance", `{"instanceId":"i"}`, "INSTANCE_NOT_FOUND", ""},
	{"query in an unknown mode", "InstanceService/QueryInstance", `{"instanceId":"i","readMode":9}`, "INVALID_REQUEST", "read_mode"},
	{"crash info of what is not there", "InstanceService/GetCrashInfo", `{"instanceId":"i"}`, "INSTANCE_NOT_FOUND", ""},
	{"standard input too large", "InstanceService/StartInstance", `{"moduleName":"m","stdin":"` + strings.Repeat("AAAA", 64<<10/3+1) + `"}`, "VALIDATION_ERROR", "stdin"},
	{"invoke without ID", "InstanceService/InvokeInstance", `{"function":"f"}`, "INVALID_REQUEST", "instance_id"},
	{"invoke without function", "InstanceService/InvokeInstance", `{"instanceId":"final"}`, "INVALID_REQUEST", "function"},
	{"invoke with numbers and bytes", "InstanceService/InvokeInstance", `{"instanceId":"final","function":"f","args":[1],"data":""}`, "INVALID_REQUEST", "args"},
	{"invoke with what is no number", "InstanceService/InvokeInstance", `{"instanceId":"final","function":"f","args":[1,"one"]}`, "INVALID_REQUEST", "args"},
	{"invoke with a list", "InstanceService/InvokeInstance", `{"instanceId":"final","function":"f","args":[[1]]}`, "INVALID_REQUEST", "args"},
	{"invoke with true", "InstanceService/InvokeInstance", `{"instanceId":"final","function":"f","args":[true]}`, "INVALID_REQUEST", "args"},
	{"invoke with too many arguments", "InstanceService/InvokeInstance", `{"instanceId":"final","function":"f","args":[` + strings.Repeat("1,", 256) + `1]}`, "VALIDATION_ERROR", "args"},
	{"invoke with a negative timeout", "InstanceService/InvokeInstance", `{"instanceId":"final","function":"f","timeout":"-1s"}`, "VALIDATION_ERROR", "timeout"},
	{"invoke with too long a timeout", "InstanceService/InvokeInstance", `{"instanceId":"final","function":"f","timeout":"601s"}`, "VALIDATION_ERROR", "timeout"},
	{"invoke with too much data", "InstanceService/InvokeInstance", `{"instanceId":"final","function":"f","data":"` + strings.Repeat("AAAA", 4<<20/3+1) + `"}`, "RESOURCE_EXHAUSTED", "data"},
	{"invoke of what is not there", "InstanceService/InvokeInstance", `{"instanceId":"i","function":"f"}`, "INSTANCE_NOT_FOUND", ""},
	{"invoke of what is final", "InstanceService/InvokeInstance", `{"instanceId":"final","function":"f"}`, "CONFLICT", ""},
	{"invoke of a command", "InstanceService/InvokeInstance", `{"instanceId":"command","function":"f"}`, "VALIDATION_ERROR", "instance_id"},
	{"list with a bad selector", "InstanceService/ListInstances", `{"selectors":["!"]}`, "VALIDATION_ERROR", "selectors"},
	{"list of an unknown status", "InstanceService/ListInstances", `{"statuses":[99]}`, "INVALID_REQUEST", "statuses"},
	{"list with too large a page", "InstanceService/ListInstances", `{"pageSize":10001}`, "VALIDATION_ERROR", "page_size"},
	{"list from a bad page", "InstanceService/ListInstances", `{"pageToken":"%"}`, "INVALID_REQUEST", "page_token"},
	{"list of a bad node", "InstanceService/ListInstances", `{"node":"%"}`, "INVALID_REQUEST", "node"},

	{"assign without instance", "CapabilityService/AssignCapability", `{"capabilityId":"c","type":"kv","permissions":["kv:read"]}`, "INVALID_REQUEST", ""},
	{"assign without ID", "CapabilityService/AssignCapability", `{"instanceId":"final","type":"kv","permissions":["kv:read"]}`, "INVALID_REQUEST", ""},
	{"assign without permissions", "CapabilityService/AssignCapability", `{"instanceId":"final","capabilityId":"c","type":"kv"}`, "INVALID_REQUEST", "permissions"},
	{"assign an empty permission", "CapabilityService/AssignCapability", `{"instanceId":"final","capabilityId":"c","type":"kv","permissions":[""]}`, "INVALID_REQUEST", "permissions"},
	{"assign an unknown permission", "CapabilityService/AssignCapability", `{"instanceId":"final","capabilityId":"c","type":"kv","permissions":["kv:fly"]}`, "VALIDATION_ERROR", "permissions"},
	{"assign an unknown type", "CapabilityService/AssignCapability", `{"instanceId":"final","capabilityId":"c","type":"disk","permissions":["kv:read"]}`, "VALIDATION_ERROR", "type"},
	{"assign to what is not there", "CapabilityService/AssignCapability", `{"instanceId":"i","capabilityId":"c","type":"kv","permissions":["kv:read"]}`, "INSTANCE_NOT_FOUND", ""},
	{"revoke without ID", "CapabilityService/RevokeCapability", `{"instanceId":"final"}`, "INVALID_REQUEST", "capability_id"},
	{"revoke what is not there", "CapabilityService/RevokeCapability", `{"instanceId":"final","capabilityId":"c"}`, "CAPABILITY_NOT_FOUND", ""},
	{"assign of a provider that is not there", "CapabilityService/AssignCapability", `{"instanceId":"live","capabilityId":"c","type":"kv","permissions":["kv:read"],"provider":"nope"}`, "CAPABILITY_NOT_FOUND", ""},
	{"assign of a bad provider", "CapabilityService/AssignCapability", `{"instanceId":"live","capabilityId":"c","type":"kv","permissions":["kv:read"],"provider":"%"}`, "INVALID_REQUEST", "provider"},
	{"assign a namespace of http", "CapabilityService/AssignCapability", `{"instanceId":"live","capabilityId":"c","type":"http","permissions":["http:request"],"namespace":"n"}`, "VALIDATION_ERROR", "namespace"},
	{"assign stale http", "CapabilityService/AssignCapability", `{"instanceId":"live","capabilityId":"c","type":"http","permissions":["http:request"],"stale":true}`, "VALIDATION_ERROR", "stale"},
	{"assign to what is final", "CapabilityService/AssignCapability", `{"instanceId":"final","capabilityId":"c","type":"kv","permissions":["kv:read"]}`, "CONFLICT", ""},
	{"revoke without waiting", "CapabilityService/RevokeCapability", `{"instanceId":"live","capabilityId":"c","timeout":"0s"}`, "VALIDATION_ERROR", "timeout"},
	{"revoke with a negative timeout", "CapabilityService/RevokeCapability", `{"instanceId":"live","capabilityId":"c","timeout":"-1s"}`, "VALIDATION_ERROR", "timeout"},
	{"revoke with too long a timeout", "CapabilityService/RevokeCapability", `{"instanceId":"live","capabilityId":"c","timeout":"601s"}`, "VALIDATION_ERROR", "timeout"},
	{"capabilities of what is not there", "CapabilityService/ListCapabilities", `{"instanceId":"i"}`, "INSTANCE_NOT_FOUND", ""},

	{"start no provider", "ProviderService/StartProvider", `{"type":"kv"}`, "INVALID_REQUEST", "provider_id"},
	{"start a provider of no type", "ProviderService/StartProvider", `{"providerId":"p"}`, "INVALID_REQUEST", "type"},
	{"start a provider of an unknown type", "ProviderService/StartProvider", `{"providerId":"p","type":"disk"}`, "VALIDATION_ERROR", "type"},
	{"start kv as http", "ProviderService/StartProvider", `{"providerId":"kv","type":"http"}`, "CONFLICT", "type"},
	{"start a provider with an unknown key", "ProviderService/StartProvider", `{"providerId":"p","type":"kv","config":{"speed":"9"}}`, "VALIDATION_ERROR", "config.speed"},
	{"start a provider with a bad value", "ProviderService/StartProvider", `{"providerId":"p","type":"http","config":{"timeout":"soon"}}`, "VALIDATION_ERROR", "config.timeout"},
	{"start a provider nowhere", "ProviderService/StartProvider", `{"providerId":"p","type":"kv","constraints":["zone in a"]}`, "VALIDATION_ERROR", "constraints"},
	{"stop a provider that is not there", "ProviderService/StopProvider", `{"providerId":"p"}`, "CAPABILITY_NOT_FOUND", ""},
	{"stop no provider", "ProviderService/StopProvider", `{}`, "INVALID_REQUEST", "provider_id"},
	{"update a provider that is not there", "ProviderService/UpdateProvider", `{"providerId":"p","everywhere":true}`, "CAPABILITY_NOT_FOUND", ""},
	{"update nothing of a provider", "ProviderService/UpdateProvider", `{"providerId":"kv"}`, "INVALID_REQUEST", "config"},
	{"update a provider to be everywhere and somewhere", "ProviderService/UpdateProvider", `{"providerId":"kv","everywhere":true,"constraints":["zone=a"]}`, "INVALID_REQUEST", "everywhere"},
	{"set and unset a key", "ProviderService/UpdateProvider", `{"providerId":"kv","config":{"max_keys":"1"},"unset":["max_keys"]}`, "INVALID_REQUEST", "unset"},
	{"unset what is not set", "ProviderService/UpdateProvider", `{"providerId":"kv","unset":["max_keys"]}`, "VALIDATION_ERROR", "unset"},
	{"update a provider with what stands for a password", "ProviderService/UpdateProvider", `{"providerId":"kv","config":{"url":"redis://:xxxxx@h"}}`, "VALIDATION_ERROR", "config.url"},
	{"update a provider of another revision", "ProviderService/UpdateProvider", `{"providerId":"kv","revision":"7","everywhere":true}`, "CONFLICT", "revision"},
	{"remove a provider that is not there", "ProviderService/RemoveProvider", `{"providerId":"p"}`, "CAPABILITY_NOT_FOUND", ""},
	{"remove a provider that runs", "ProviderService/RemoveProvider", `{"providerId":"kv"}`, "CONFLICT", ""},
	{"get a provider that is not there", "ProviderService/GetProvider", `{"providerId":"p"}`, "CAPABILITY_NOT_FOUND", ""},
	{"get no provider", "ProviderService/GetProvider", `{}`, "INVALID_REQUEST", "provider_id"},

	{"inspect nothing", "ModuleService/InspectModule", `{}`, "INVALID_REQUEST", "module"},
	{"inspect what is not there", "ModuleService/InspectModule", `{"module":"nope"}`, "MODULE_NOT_FOUND", ""},
	{"inspect what cannot be", "ModuleService/InspectModule", `{"module":"sha256:xyz"}`, "INVALID_REQUEST", "module"},
	{"remove nothing", "ModuleService/RemoveModule", `{}`, "INVALID_REQUEST", "module"},
	{"remove what is not there", "ModuleService/RemoveModule", `{"module":"nope"}`, "MODULE_NOT_FOUND", ""},
	{"node without ID", "NodeService/GetNode", `{}`, "INVALID_REQUEST", "node_id"},
	{"node that is not there", "NodeService/GetNode", `{"nodeId":"n9"}`, "NODE_NOT_FOUND", ""},
	{"drain of what is not there", "NodeService/DrainNode", `{"nodeId":"n9","drain":true}`, "NODE_NOT_FOUND", ""},
	{"events of a bad instance", "EventService/ListEvents", `{"filter":{"instanceId":"%"}}`, "INVALID_REQUEST", "filter.instance_id"},
	{"too many events", "EventService/ListEvents", `{"limit":10001}`, "VALIDATION_ERROR", "limit"},
	{"join nobody", "ClusterService/Join", `{}`, "INVALID_REQUEST", "addresses"},
	{"join nowhere", "ClusterService/Join", `{"addresses":[""]}`, "INVALID_REQUEST", "addresses"},
	{"remove no peer", "ClusterService/RemovePeer", `{}`, "INVALID_REQUEST", "server"},
	{"register nobody", "ControlService/Register", `{}`, "INVALID_REQUEST", "node_id"},
	{"register without boot", "ControlService/Register", `{"nodeId":"n"}`, "INVALID_REQUEST", "boot_id"},
	{"register nowhere", "ControlService/Register", `{"nodeId":"n","bootId":"b"}`, "INVALID_REQUEST", "address"},
	{"register in another cluster", "ControlService/Register", `{"nodeId":"n","bootId":"b","address":"127.0.0.1:1","clusterId":"other"}`, "VALIDATION_ERROR", "cluster_id"},
	{"renew of a stranger", "ControlService/Renew", `{"nodeId":"n9","bootId":"b"}`, "NODE_NOT_FOUND", ""},
	{"denials without a number", "ControlService/ReportDenials", `{"nodeId":"n1","bootId":"boot"}`, "INVALID_REQUEST", "seq"},
	{"denials of nobody", "ControlService/ReportDenials", `{"nodeId":"n1","bootId":"boot","seq":"1","denials":[{}]}`, "INVALID_REQUEST", "denials.instance_id"},
	{"denials from nowhere", "ControlService/ReportDenials", `{"bootId":"boot","seq":"1"}`, "INVALID_REQUEST", "node_id"},
	{"grants of nobody", "ControlService/GetGrants", `{}`, "INVALID_REQUEST", "instance_id"},
	{"report of an unknown status", "ControlService/ReportStatus", `{"nodeId":"n1","bootId":"b","reports":[{"status":99}]}`, "INVALID_REQUEST", "status"},
}

// invalidCluster has module m, node n1, the final instance "final", the instance
// "live" of it, and "command" of a module that is one.
func invalidCluster(t *testing.T) *rpctest.Cluster {
	c := newCluster(t, 2)
	addNode(t, c, "n1", "127.0.0.1:1")
	addModule(t, c, "m")
	if _, e := call(t, c.Servers[0].Addr, "InstanceService/StartInstance", `{"moduleName":"m","instanceId":"final"}`); e != nil {
		t.Fatal(e)
	}
	report(t, c, "n1", "final", 1, wasmatrix.StatusStopped)
	if _, e := call(t, c.Servers[0].Addr, "InstanceService/StartInstance", `{"moduleName":"m","instanceId":"live"}`); e != nil {
		t.Fatal(e)
	}
	command := wasmatrix.Module{Digest: wasmatrix.DigestOf([]byte("command")), Size: 8, Kind: wasmatrix.ModuleCommand}
	if _, err := c.Servers[0].Propose(t.Context(), wasmatrix.AddModule{At: 2, Name: "command", Module: &command}); err != nil {
		t.Fatal(err)
	}
	if _, e := call(t, c.Servers[0].Addr, "InstanceService/StartInstance", `{"moduleName":"command","instanceId":"command"}`); e != nil {
		t.Fatal(e)
	}
	return c
}

// TestP18_InvalidRequestsGetTheirCode sends each to the leader and to a follower,
// in each protocol.
func TestP18_InvalidRequestsGetTheirCode(t *testing.T) {
	c := invalidCluster(t)
	rt := newTransport(t)
	for _, tt := range invalid {
		t.Run(tt.name, func(t *testing.T) {
			before := c.Servers[0].Machine.Snapshot()
			check := func(how string, e *wasmatrix.Error) {
				t.Helper()
				switch {
				case e == nil:
					t.Errorf("%s: accepted", how)
				case e.Code != tt.code || tt.field != "" && e.Details[wasmatrix.DetailField] != tt.field:
					t.Errorf("%s: %v, details %v; want %s of %s", how, e, e.Details, tt.code, tt.field)
				case e.Message == "" || time.Since(e.Time) > time.Hour:
					t.Errorf("%s: message %q, time %v", how, e.Message, e.Time)
				}
			}
			for i, s := range c.Servers {
				_, e := call(t, s.Addr, tt.procedure, tt.body)
				check(fmt.Sprint("curl ", i), e)
				for name, opts := range protocols {
					check(fmt.Sprint(name, " ", i), dynamicCall(t, rt, s.Addr, tt.procedure, tt.body, opts))
				}
			}
			after := c.Servers[0].Machine.Snapshot()
			if after.InstanceCount() != before.InstanceCount() || len(after.ModuleNames(wasmatrix.DigestOf(wasm))) != 1 {
				t.Error("an invalid request changed something")
			}
		})
	}
}

// call is what curl does: a POST of JSON over HTTP/1.1.
func call(t testing.TB, addr, procedure, body string) (map[string]any, *wasmatrix.Error) {
	t.Helper()
	res, err := http.Post("http://"+addr+"/wasmatrix.v1."+procedure, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return answerOf(t, res)
}

// answerOf reads the JSON of a Connect answer, and the detail of a failure.
func answerOf(t testing.TB, res *http.Response) (map[string]any, *wasmatrix.Error) {
	t.Helper()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode == http.StatusOK {
		out := map[string]any{}
		if err := json.Unmarshal(b, &out); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		return out, nil
	}
	var failure struct {
		Details []struct {
			Type, Value string
			Debug       map[string]any
		}
	}
	if err := json.Unmarshal(b, &failure); err != nil || len(failure.Details) != 1 || failure.Details[0].Type != "wasmatrix.v1.Error" {
		t.Fatalf("HTTP status %d without a detail: %s", res.StatusCode, b)
	}
	raw, err := base64.RawStdEncoding.DecodeString(failure.Details[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	m := &api.Error{}
	if err := proto.Unmarshal(raw, m); err != nil {
		t.Fatal(err)
	}
	if failure.Details[0].Debug["code"] != m.Code {
		t.Errorf("the readable form says %v", failure.Details[0].Debug)
	}
	e := wire.ErrorFrom(m)
	if got := res.Header.Get(wire.HeaderCode); got != string(e.Code) {
		t.Errorf("header %s is %q, want %q", wire.HeaderCode, got, e.Code)
	}
	return nil, e
}

// dynamicCall makes a call of which it knows the name and the JSON only.
func dynamicCall(t testing.TB, rt http.RoundTripper, addr, procedure, body string, opts []connect.ClientOption) *wasmatrix.Error {
	t.Helper()
	service, name, _ := strings.Cut("wasmatrix.v1."+procedure, "/")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		t.Fatal(err)
	}
	method := d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name))
	m := dynamicpb.NewMessage(method.Input())
	if err := protojson.Unmarshal([]byte(body), m); err != nil {
		t.Fatal(err)
	}
	idempotency := connect.IdempotencyUnknown
	if method.Options().(interface{ ProtoReflect() protoreflect.Message }) != nil && strings.Contains(fmt.Sprint(method.Options()), "NO_SIDE_EFFECTS") {
		idempotency = connect.IdempotencyNoSideEffects
	}
	cl := connect.NewClient[dynamicpb.Message, emptypb.Empty](&http.Client{Transport: rt}, "http://"+addr+"/wasmatrix.v1."+procedure,
		append([]connect.ClientOption{connect.WithSchema(method), connect.WithIdempotency(idempotency)}, opts...)...)
	_, err = cl.CallUnary(t.Context(), connect.NewRequest(m))
	return wire.FromConnect(err)
}

// TestEveryFailureHasADetail is about what fails before any handler runs.
func TestEveryFailureHasADetail(t *testing.T) {
	c := invalidCluster(t)
	large := append([]byte(`{"labels":{"a":"`), append(bytes.Repeat([]byte("x"), 9<<19), []byte(`"}}`)...)...)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(large); err != nil {
		t.Fatal(err)
	}
	z.Close()
	start, query := "/wasmatrix.v1.InstanceService/StartInstance", "/wasmatrix.v1.InstanceService/QueryInstance"
	json := http.Header{"Content-Type": {"application/json"}}
	with := func(name, value string) http.Header {
		h := json.Clone()
		h.Set(name, value)
		return h
	}
	for _, tt := range []struct {
		name, method, path string
		header             http.Header
		body               []byte
		code               wasmatrix.Code
		status             int
	}{
		{"malformed JSON", "POST", start, json, []byte(`{"moduleName":`), "INVALID_REQUEST", 400},
		{"unknown field", "POST", start, json, []byte(`{"nonsense":1}`), "INVALID_REQUEST", 400},
		{"malformed protobuf", "POST", start, with("Content-Type", "application/proto"), []byte{0xff, 0xff}, "INVALID_REQUEST", 400},
		{"huge", "POST", "/wasmatrix.v1.NodeService/DrainNode", json, large, "RESOURCE_EXHAUSTED", 429},
		{"huger", "POST", "/wasmatrix.v1.NodeService/DrainNode", json, bytes.Repeat(large, 3), "RESOURCE_EXHAUSTED", 429},
		{"huge when decompressed", "POST", "/wasmatrix.v1.NodeService/DrainNode", with("Content-Encoding", "gzip"), zipped.Bytes(), "RESOURCE_EXHAUSTED", 429},
		{"module over the limit", "POST", start, with("Content-Type", "application/proto"), overlarge(t), "RESOURCE_EXHAUSTED", 429},
		{"no such procedure", "POST", "/wasmatrix.v1.InstanceService/Nonsense", json, []byte(`{}`), "INVALID_REQUEST", 404},
		{"no such service", "POST", "/wasmatrix.v1.Nonsense/Nonsense", json, []byte(`{}`), "INVALID_REQUEST", 404},
		{"no such page", "GET", "/nonsense", nil, nil, "INVALID_REQUEST", 404},
		{"GET of what changes", "GET", start, nil, nil, "INVALID_REQUEST", 405},
		{"GET without message", "GET", query, nil, nil, "INVALID_REQUEST", 415},
		{"GET of a bad message", "GET", query + "?encoding=json&message=%7B", nil, nil, "INVALID_REQUEST", 400},
		{"unknown content type", "POST", start, with("Content-Type", "text/plain"), []byte(`x`), "INVALID_REQUEST", 415},
		{"unknown compression", "POST", start, with("Content-Encoding", "br"), []byte(`{}`), "INVALID_REQUEST", 400},
		{"bad timeout", "POST", start, with("Connect-Timeout-Ms", "soon"), []byte(`{}`), "INVALID_REQUEST", 400},
		{"timeout that has passed", "POST", query, with("Connect-Timeout-Ms", "0"), []byte(`{"instanceId":"final"}`), "TIMEOUT", 504},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, s := range c.Servers {
				for version, rt := range map[string]http.RoundTripper{"1.1": http.DefaultTransport, "2": newTransport(t)} {
					req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://"+s.Addr+tt.path, bytes.NewReader(tt.body))
					if err != nil {
						t.Fatal(err)
					}
					req.Header = tt.header.Clone()
					res, err := (&http.Client{Transport: rt}).Do(req)
					if err != nil {
						t.Fatal(err)
					}
					_, e := answerOf(t, res)
					if e == nil || e.Code != tt.code || res.StatusCode != tt.status {
						t.Errorf("HTTP/%s: status %d, %v; want %d, %s", version, res.StatusCode, e, tt.status, tt.code)
					}
				}
			}
		})
	}
}

// overlarge is a start request with a module over the limit of 1 MiB, but below
// that of the message.
func overlarge(t *testing.T) []byte {
	b, err := proto.Marshal(&api.StartInstanceRequest{Module: &api.StartInstanceRequest_ModuleBytes{ModuleBytes: append(wasm, custom(1<<20)...)}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEveryGRPCFailureHasADetail is the same for gRPC and gRPC-Web, and for streams.
func TestEveryGRPCFailureHasADetail(t *testing.T) {
	c := invalidCluster(t)
	rt := newTransport(t)
	send := func(contentType, path string, header http.Header, body []byte) (headers, trailers http.Header) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.Servers[1].Addr+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header.Clone()
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Te", "trailers")
		res, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if strings.HasPrefix(contentType, "application/connect+") {
			if len(b) < 5 || !bytes.Contains(b, []byte(`"wasmatrix.v1.Error"`)) {
				t.Errorf("%s: the stream ends with %q", path, b)
			}
		}
		return res.Header, res.Trailer
	}
	malformed := []byte{0, 0, 0, 0, 2, 0xff, 0xff}
	large := append([]byte{0, 0, 0x50, 0, 0}, make([]byte, 5<<20)...)
	for _, tt := range []struct {
		name, path string
		header     http.Header
		body       []byte
		status     string
		code       wasmatrix.Code
	}{
		{"malformed", "/wasmatrix.v1.InstanceService/QueryInstance", http.Header{}, malformed, "3", "INVALID_REQUEST"},
		{"malformed start", "/wasmatrix.v1.InstanceService/StartInstance", http.Header{}, malformed, "3", "INVALID_REQUEST"},
		{"malformed watch", "/wasmatrix.v1.InstanceService/WatchInstances", http.Header{}, malformed, "3", "INVALID_REQUEST"},
		{"malformed push", "/wasmatrix.v1.ModuleService/PushModule", http.Header{}, malformed, "3", "INVALID_REQUEST"},
		{"huge", "/wasmatrix.v1.InstanceService/QueryInstance", http.Header{}, large, "8", "RESOURCE_EXHAUSTED"},
		{"huge piece", "/wasmatrix.v1.ModuleService/PushModule", http.Header{}, large, "8", "RESOURCE_EXHAUSTED"},
		{"unknown compression", "/wasmatrix.v1.InstanceService/WatchInstances", http.Header{"Grpc-Encoding": {"br"}}, nil, "3", "INVALID_REQUEST"},
		{"bad timeout", "/wasmatrix.v1.InstanceService/QueryInstance", http.Header{"Grpc-Timeout": {"1x"}}, nil, "3", "INVALID_REQUEST"},
		{"no such procedure", "/wasmatrix.v1.InstanceService/Nonsense", http.Header{}, nil, "12", "INVALID_REQUEST"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, contentType := range []string{"application/grpc", "application/grpc-web+proto"} {
				headers, trailers := send(contentType, tt.path, tt.header, tt.body)
				h := trailers
				if contentType != "application/grpc" {
					h = headers
				}
				if h.Get("Grpc-Status") != tt.status || h.Get("Grpc-Status-Details-Bin") == "" || headers.Get(wire.HeaderCode) != string(tt.code) {
					t.Errorf("%s: headers %v, trailers %v", contentType, headers, trailers)
				}
			}
		})
	}
	send("application/connect+json", "/wasmatrix.v1.InstanceService/WatchInstances", http.Header{}, []byte{0, 0, 0, 0, 1, '{'})
	send("application/connect+json", "/wasmatrix.v1.InstanceService/WatchInstances", http.Header{"Connect-Content-Encoding": {"br"}}, nil)
	send("application/connect+proto", "/wasmatrix.v1.ModuleService/PushModule", http.Header{}, nil)
}

// TestReadsCanBeGot is the plain GET of a browser, at a follower.
func TestReadsCanBeGot(t *testing.T) {
	c := invalidCluster(t)
	q := url.Values{"encoding": {"json"}, "message": {`{"instanceId":"final"}`}}
	res, err := http.Get("http://" + c.Servers[1].Addr + "/wasmatrix.v1.InstanceService/QueryInstance?" + q.Encode())
	if err != nil {
		t.Fatal(err)
	}
	got, e := answerOf(t, res)
	if e != nil || got["instance"].(map[string]any)["instanceId"] != "final" {
		t.Errorf("got %v, %v", got, e)
	}
	if got := res.Header.Get(wire.HeaderLeader); got != c.Servers[0].Addr {
		t.Errorf("the answer says that %q led", got)
	}
}

func TestProbes(t *testing.T) {
	c := newCluster(t, 1)
	get := func(path string) int {
		res, err := http.Get("http://" + c.Servers[0].Addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer http.DefaultClient.CloseIdleConnections()
		defer res.Body.Close()
		return res.StatusCode
	}
	if live, ready := get("/healthz"), get("/readyz"); live != 200 || ready != 200 {
		t.Errorf("live %d, ready %d", live, ready)
	}
	c.SetLeader(-1)
	if live, ready := get("/healthz"), get("/readyz"); live != 200 || ready != 503 {
		t.Errorf("without a leader: live %d, ready %d", live, ready)
	}
}

// TestSlowHeadersAreCutOff sees that a client that sends half a request does not
// hold a connection for ever. The limit itself is the HTTP server's.
func TestHalfARequestGetsNoAnswer(t *testing.T) {
	c := newCluster(t, 1)
	conn, err := net.Dial("tcp", c.Servers[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "POST /wasmatrix.v1.InstanceService/ListInstances HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	conn.Close()
	if err != nil || !strings.Contains(string(b), "INVALID_REQUEST") && len(b) > 0 {
		t.Errorf("answer %q, %v", b, err)
	}
}
