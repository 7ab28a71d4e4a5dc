package rpc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/gen/api/apiconnect"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// carryRaw sends messages on one stream as they are, and returns those that came
// before its end.
func carryRaw(t testing.TB, rt http.RoundTripper, addr string, messages []*api.CarryRequest, opts ...connect.ClientOption) ([]*api.CarryResponse, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cl := apiconnect.NewProviderCallServiceClient(&http.Client{Transport: rt}, "http://"+addr, opts...)
	stream, err := cl.Carry(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var got []*api.CarryResponse
	var end error
	wg.Go(func() {
		for {
			m, err := stream.Receive()
			if err != nil {
				end = err
				return
			}
			got = append(got, m)
		}
	})
	for _, m := range messages {
		if stream.Send(m) != nil {
			break // Receive says why
		}
	}
	if err := stream.CloseRequest(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	_ = stream.CloseResponse()
	if errors.Is(end, io.EOF) {
		end = nil
	}
	return got, end
}

// endsOf collects the last messages of the calls.
func endsOf(messages []*api.CarryResponse) map[uint64][]*api.CarryResponse {
	ends := make(map[uint64][]*api.CarryResponse)
	for _, m := range messages {
		if m.End {
			ends[m.Call] = append(ends[m.Call], m)
		}
	}
	return ends
}

func get(call uint64, key string) *api.CarryRequest {
	return &api.CarryRequest{Call: call, Scope: wire.ScopeTo(scopeOf("i")), Part: &api.CarryRequest_KvGet{KvGet: &api.KVGet{Key: key}}}
}

func with(m *api.CarryRequest, f func(*api.CarryRequest)) *api.CarryRequest {
	f(m)
	return m
}

func cancelOf(call uint64) *api.CarryRequest {
	return &api.CarryRequest{Call: call, Part: &api.CarryRequest_Cancel{Cancel: &api.Cancel{}}}
}

func openOf(call uint64, url string) *api.CarryRequest {
	return &api.CarryRequest{Call: call, Scope: wire.ScopeTo(scopeOf("i")), Part: &api.CarryRequest_HttpOpen{HttpOpen: &api.HTTPOpen{Url: url}}}
}

func writeOf(call uint64) *api.CarryRequest {
	return &api.CarryRequest{Call: call, Part: &api.CarryRequest_HttpWrite{HttpWrite: &api.HTTPWrite{Data: []byte("x")}}}
}

// TestMalformedCallsGetErrors, and the calls beside them their answers.
func TestMalformedCallsGetErrors(t *testing.T) {
	host := newFakeHost()
	host.entries["own/i/2/k"] = capability.Entry{Value: []byte("v"), Revision: 5}
	c, _ := carryCluster(t, host)
	rt := newTransport(t)
	for _, tt := range []struct {
		name     string
		messages []*api.CarryRequest
		call     uint64
		code     wasmatrix.Code
	}{
		{"no number", []*api.CarryRequest{get(0, "k")}, 0, "INVALID_REQUEST"},
		{"no part", []*api.CarryRequest{with(get(2, "k"), func(m *api.CarryRequest) { m.Part = nil })}, 2, "INVALID_REQUEST"},
		{"no scope", []*api.CarryRequest{with(get(2, "k"), func(m *api.CarryRequest) { m.Scope = nil })}, 2, "INVALID_REQUEST"},
		{"a bad instance", []*api.CarryRequest{with(get(2, "k"), func(m *api.CarryRequest) { m.Scope.InstanceId = "%" })}, 2, "INVALID_REQUEST"},
		{"a bad capability", []*api.CarryRequest{with(get(2, "k"), func(m *api.CarryRequest) { m.Scope.CapabilityId = "" })}, 2, "INVALID_REQUEST"},
		{"a bad provider", []*api.CarryRequest{with(get(2, "k"), func(m *api.CarryRequest) { m.Scope.ProviderId = "/" })}, 2, "INVALID_REQUEST"},
		{"no duration", []*api.CarryRequest{with(get(2, "k"), func(m *api.CarryRequest) { m.Timeout = &durationpb.Duration{Nanos: -1, Seconds: 1} })}, 2, "INVALID_REQUEST"},
		{"no time", []*api.CarryRequest{with(get(2, "k"), func(m *api.CarryRequest) { m.Timeout = durationpb.New(-time.Second) })}, 2, "TIMEOUT"},
		{"a bad write ID", []*api.CarryRequest{with(get(2, "k"), func(m *api.CarryRequest) {
			m.Part = &api.CarryRequest_KvDelete{KvDelete: &api.KVDelete{Key: "k", WriteId: []byte("short")}}
		})}, 2, "INVALID_REQUEST"},
		{"a part without a call", []*api.CarryRequest{writeOf(2)}, 2, "INVALID_REQUEST"},
		{"an end without a call", []*api.CarryRequest{cancelOf(2)}, 2, "INVALID_REQUEST"},
		{"a call twice", []*api.CarryRequest{get(2, "block"), get(2, "k")}, 2, "INVALID_REQUEST"},
		{"a part of another kind of call", []*api.CarryRequest{get(2, "block"), writeOf(2)}, 2, "INVALID_REQUEST"},
		{"a part too early", []*api.CarryRequest{openOf(2, "write block"), writeOf(2), writeOf(2), writeOf(2)}, 2, "INVALID_REQUEST"},
		{"an opening twice", []*api.CarryRequest{openOf(2, "well"), openOf(2, "well")}, 2, "INVALID_REQUEST"},
		{"a timeout of an opening that is none", []*api.CarryRequest{with(openOf(2, "well"), func(m *api.CarryRequest) {
			m.GetHttpOpen().Timeout = &durationpb.Duration{Nanos: -1, Seconds: 1}
		})}, 2, "INVALID_REQUEST"},
	} {
		for name, opts := range protocols {
			if name == "grpc-web" || name == "connect-get" {
				continue // they have no such streams, or nothing else to say
			}
			if _, err := protojson.Marshal(tt.messages[0]); err != nil && name == "connect-json" {
				continue // it cannot even be said
			}
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				got, err := carryRaw(t, rt, c.Servers[0].Addr, append([]*api.CarryRequest{get(1, "k")}, tt.messages...), opts...)
				if err != nil {
					t.Fatal(err)
				}
				ends := endsOf(got)
				if good := ends[1]; len(good) != 1 || good[0].GetKvEntry().GetRevision() != 5 {
					t.Errorf("the good call beside it ended with %v", good)
				}
				if bad := ends[tt.call]; len(bad) != 1 || bad[0].GetError().GetCode() != string(tt.code) {
					t.Errorf("it ended with %v, want %s", bad, tt.code)
				}
			})
		}
	}
	for _, size := range []uint32{0, 1<<20 + 1} {
		read := &api.CarryRequest{Call: 1, Part: &api.CarryRequest_HttpRead{HttpRead: &api.HTTPRead{Size: size}}}
		got, err := carryRaw(t, rt, c.Servers[0].Addr, []*api.CarryRequest{openOf(1, "well"), read})
		if err != nil || len(endsOf(got)[1]) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
	}
	// A message that is too large, or none, ends its own stream.
	_, err := carryRaw(t, rt, c.Servers[0].Addr, []*api.CarryRequest{get(1, string(make([]byte, 3<<20)))})
	wantCode(t, "too large", wire.FromConnect(err), wasmatrix.CodeResourceExhausted, "")
	if err := host.await(wait(t), 0); err != nil {
		t.Error(err)
	}
}

// TestCallsOfAStreamAreBounded in number.
func TestCallsOfAStreamAreBounded(t *testing.T) {
	host := newFakeHost()
	c, _ := carryCluster(t, host)
	var messages []*api.CarryRequest
	for i := range uint64(wire.MaxCarried + 10) {
		messages = append(messages, get(i+1, "block"))
	}
	for i := range uint64(wire.MaxCarriedOpen + 10) {
		messages = append(messages, openOf(i+100_000, "well"))
	}
	got, err := carryRaw(t, newTransport(t), c.Servers[0].Addr, messages)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for call, ends := range endsOf(got) {
		if len(ends) != 1 {
			t.Errorf("call %d ended %d times", call, len(ends))
		}
		if ends[0].GetError().GetCode() == string(wasmatrix.CodeResourceExhausted) {
			refused++
		}
	}
	if refused != 20 || len(endsOf(got)) != len(messages) {
		t.Errorf("%d calls of %d ended, %d were refused", len(endsOf(got)), len(messages), refused)
	}
	if err := host.await(wait(t), 0); err != nil {
		t.Error(err)
	}
}

// FuzzCarry sends any sequence of messages to a server. Whatever begins a call has
// exactly one end for it, the stream ends well, and nothing is left open.
func FuzzCarry(f *testing.F) {
	for _, messages := range [][]*api.CarryRequest{
		{get(1, "k"), get(2, "block"), cancelOf(2), cancelOf(2)},
		{openOf(1, "well"), writeOf(1), cancelOf(1), writeOf(1)},
		{{Call: 3, Scope: wire.ScopeTo(scopeOf("i")), Part: &api.CarryRequest_Subscribe{Subscribe: &api.Subscribe{Topic: "t"}}},
			{Call: 4, Scope: wire.ScopeTo(scopeOf("i")), Part: &api.CarryRequest_Publish{Publish: &api.Publish{Topic: "t", Data: []byte("x")}}},
			{Call: 3, Part: &api.CarryRequest_Taken{Taken: &api.Taken{Messages: 1 << 31}}}},
		{{Call: 1}, {}, {Call: 1 << 63, Scope: &api.CallScope{}}},
	} {
		var b []byte
		for _, m := range messages {
			raw, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(raw))), raw...)
		}
		f.Add(b)
	}
	host := newFakeHost()
	c, carrier := carryCluster(f, host)
	rt := newTransport(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var messages []*api.CarryRequest
		begun := make(map[uint64]int)
		for len(b) > 2 && len(messages) < 100 {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			m := new(api.CarryRequest)
			if proto.Unmarshal(b[2:2+n], m) == nil {
				messages = append(messages, m)
				begun[m.Call]++
			}
			b = b[2+n:]
		}
		got, err := carryRaw(t, rt, c.Servers[0].Addr, messages)
		if err != nil {
			t.Fatalf("the stream ended with %v", err)
		}
		for call, ends := range endsOf(got) {
			// A number may be used for several calls, one after the other.
			if len(ends) > begun[call] {
				t.Errorf("call %d has %d messages and %d ends", call, begun[call], len(ends))
			}
		}
		for _, m := range messages {
			switch m.Part.(type) {
			case *api.CarryRequest_Cancel, *api.CarryRequest_Taken, *api.CarryRequest_HttpWrite, *api.CarryRequest_HttpSend, *api.CarryRequest_HttpRead, nil:
			default:
				if len(endsOf(got)[m.Call]) == 0 {
					t.Errorf("call %d has no end", m.Call)
				}
			}
		}
		if err := host.await(wait(t), 0); err != nil {
			t.Error(err)
		}
		if _, _, err := carrier.KV().Get(t.Context(), scopeOf("i"), "k"); err != nil {
			t.Errorf("another's call: %v", err)
		}
	})
}
