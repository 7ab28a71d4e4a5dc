package rpc_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// carryRaw sends messages on one link as they are, and returns those that came
// before its end, and the error that it ended with.
func carryRaw(t testing.TB, addr string, messages []*api.CarryRequest) ([]*api.CarryResponse, *wasmatrix.Error) {
	t.Helper()
	raw := openRaw(t, addr)
	defer raw.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		var b []byte
		for _, m := range messages {
			b = append(b, frameOf(t, m)...)
		}
		if _, err := raw.Write(b); err == nil { // else what is read says why
			_ = raw.CloseWrite()
		}
	})
	got, end := raw.readAll(t)
	wg.Wait()
	return got, end
}

// rawLink is a link by hand.
type rawLink struct {
	*net.TCPConn
	r *bufio.Reader
}

func openRaw(t testing.TB, addr string) *rawLink {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	l := &rawLink{conn.(*net.TCPConn), bufio.NewReader(conn)}
	if err := l.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(l, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: wasmatrix-link/1\r\n\r\n", wire.CallsPath)
	res, err := http.ReadResponse(l.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res.Status)
	}
	return l
}

func frameOf(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...)
}

// read returns a message, or the error that is the end.
func (l *rawLink) read(t testing.TB) (*api.CarryResponse, *api.Error) {
	t.Helper()
	head := make([]byte, 5)
	if _, err := io.ReadFull(l.r, head); err != nil {
		t.Fatalf("there is no end: %v", err)
	}
	b := make([]byte, binary.BigEndian.Uint32(head[1:]))
	if _, err := io.ReadFull(l.r, b); err != nil {
		t.Fatal(err)
	}
	m, end := new(api.CarryResponse), new(api.Error)
	switch head[0] {
	case 0:
		if err := proto.Unmarshal(b, m); err != nil {
			t.Fatal(err)
		}
		return m, nil
	case 1:
		if err := proto.Unmarshal(b, end); err != nil {
			t.Fatal(err)
		}
		return nil, end
	}
	t.Fatalf("a frame with flags %x", head[0])
	return nil, nil
}

func (l *rawLink) readAll(t testing.TB) (got []*api.CarryResponse, end *wasmatrix.Error) {
	t.Helper()
	for {
		m, e := l.read(t)
		if e == nil {
			got = append(got, m)
			continue
		}
		if e.GetCode() != "" {
			end = wire.ErrorFrom(e)
		}
		return got, end
	}
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
		t.Run(tt.name, func(t *testing.T) {
			got, err := carryRaw(t, c.Servers[0].Addr, append([]*api.CarryRequest{get(1, "k")}, tt.messages...))
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
	for _, size := range []uint32{0, 1<<20 + 1} {
		read := &api.CarryRequest{Call: 1, Part: &api.CarryRequest_HttpRead{HttpRead: &api.HTTPRead{Size: size}}}
		got, err := carryRaw(t, c.Servers[0].Addr, []*api.CarryRequest{openOf(1, "well"), read})
		if err != nil || len(endsOf(got)[1]) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
	}
	// What is too large, or no message, ends its own link.
	_, err := carryRaw(t, c.Servers[0].Addr, []*api.CarryRequest{get(1, string(make([]byte, 3<<20)))})
	wantCode(t, "too large", err, wasmatrix.CodeResourceExhausted, "")
	for name, b := range map[string][]byte{"flags": {9, 0, 0, 0, 0}, "no message": {0, 0, 0, 0, 1, 0xff}} {
		raw := openRaw(t, c.Servers[0].Addr)
		if _, err := raw.Write(b); err != nil {
			t.Fatal(err)
		}
		_, err := raw.readAll(t)
		wantCode(t, name, err, wasmatrix.CodeInvalidRequest, "")
		raw.Close()
	}
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
	got, err := carryRaw(t, c.Servers[0].Addr, messages)
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
// exactly one end for it, the link ends well, and nothing is left open.
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
		got, err := carryRaw(t, c.Servers[0].Addr, messages)
		if err != nil {
			t.Fatalf("the link ended with %v", err)
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
