package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/rpc"
	"github.com/wasmatrix/wasmatrix/rpc/client"
	"github.com/wasmatrix/wasmatrix/rpc/rpctest"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// hostOf is a host that is another for each check.
type hostOf struct{ atomic.Pointer[fakeHost] }

func (h *hostOf) Admit(ctx context.Context, s *capability.Scope) (*capability.Scope, error) {
	return h.Load().Admit(ctx, s)
}

func (h *hostOf) KV(ctx context.Context, s *capability.Scope) (capability.KV, error) {
	return h.Load().KV(ctx, s)
}

func (h *hostOf) HTTP(ctx context.Context, s *capability.Scope) (capability.HTTP, error) {
	return h.Load().HTTP(ctx, s)
}

func (h *hostOf) Messaging(ctx context.Context, s *capability.Scope) (capability.Messaging, error) {
	return h.Load().Messaging(ctx, s)
}

// carryCluster is a server that carries out calls over a host, and a way to it.
func carryCluster(t testing.TB, host capability.Host, configure ...func(*rpc.Config)) (*rpctest.Cluster, *client.Carrier) {
	t.Helper()
	configure = append(configure, func(cfg *rpc.Config) { cfg.Calls, cfg.Logger = host, hclog.NewNullLogger() })
	c := newCluster(t, 1, configure...)
	carrier := client.NewCarrier(newTransport(t).DialContext, c.Servers[0].Addr)
	t.Cleanup(func() { carrier.Close() })
	return c, carrier
}

// said is what a call has returned, to be compared.
func said(err error, format string, args ...any) string {
	if errors.Is(err, io.EOF) {
		return fmt.Sprintf(format, args...) + " EOF"
	}
	if err != nil {
		e := wire.Coded(err)
		return fmt.Sprintf(format, args...) + fmt.Sprintf(" %s %q %v", e.Code, e.Message, e.Details)
	}
	return fmt.Sprintf(format, args...)
}

// local reaches a host as its own process does.
type local struct{ host *fakeHost }

func (l local) KV() capability.KV               { return fakeKV{l.host} }
func (l local) HTTP() capability.HTTP           { return fakeHTTP{l.host} }
func (l local) Messaging() capability.Messaging { return fakeMessaging{l.host} }

type reach interface {
	KV() capability.KV
	HTTP() capability.HTTP
	Messaging() capability.Messaging
}

// TestP17_RemoteEqualsLocal makes the same calls of a host here and of one like it
// in another process.
func TestP17_RemoteEqualsLocal(t *testing.T) {
	far := new(hostOf)
	far.Store(newFakeHost())
	_, carrier := carryCluster(t, far)
	both := func() [2]reach {
		host := newFakeHost()
		far.Store(host)
		return [2]reach{local{newFakeHost()}, carrier}
	}
	fails := rapid.SampledFrom([]string{
		"fail/CONFLICT", "fail/PERMISSION_DENIED", "fail/RESOURCE_EXHAUSTED", "fail/TIMEOUT", "fail/PROVIDER_UNAVAILABLE", "fail/COMMUNICATION_FAILURE", "fail/", "fail/SOMETHING_NEW",
	})
	scope := rapid.Custom(func(t *rapid.T) *capability.Scope {
		s := scopeOf("i")
		s.Namespace = rapid.SampledFrom([]string{"own/i/2", "shared/n"}).Draw(t, "namespace")
		s.Stale, s.Exclusive = rapid.Bool().Draw(t, "stale"), rapid.Bool().Draw(t, "exclusive")
		return s
	})
	same := func(t *rapid.T, what string, ways [2]reach, f func(reach) string) {
		if local, remote := f(ways[0]), f(ways[1]); local != remote {
			t.Fatalf("%s\nhere:  %s\nthere: %s", what, local, remote)
		}
	}
	t.Run("kv", rapid.MakeCheck(func(t *rapid.T) {
		ways := both()
		key := rapid.OneOf(rapid.SampledFrom([]string{"a", "a/b", "a/c", "é", "", "scope"}), fails)
		for range rapid.IntRange(1, 30).Draw(t, "calls") {
			s, k := scope.Draw(t, "scope"), key.Draw(t, "key")
			switch op := rapid.SampledFrom([]string{"get", "set", "delete", "list"}).Draw(t, "op"); op {
			case "get":
				same(t, op, ways, func(r reach) string {
					e, found, err := r.KV().Get(t.Context(), s, k)
					return said(err, "%x %d %t", e.Value, e.Revision, found)
				})
			case "set":
				o := capability.SetOptions{TTL: time.Duration(rapid.Int64Range(0, 1<<50).Draw(t, "ttl"))}
				if rapid.Bool().Draw(t, "cas") {
					expect := rapid.Uint64Range(0, 10).Draw(t, "expect")
					o.Expect = &expect
				}
				if rapid.Bool().Draw(t, "id") {
					copy(o.ID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
				}
				if rapid.Bool().Draw(t, "options") {
					k = "options"
				}
				value := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "value")
				same(t, op, ways, func(r reach) string {
					revision, err := r.KV().Set(t.Context(), s, k, value, o)
					return said(err, "%d", revision)
				})
			case "delete":
				same(t, op, ways, func(r reach) string {
					existed, err := r.KV().Delete(t.Context(), s, k, capability.WriteID{1})
					return said(err, "%t", existed)
				})
			case "list":
				q := capability.ListQuery{Prefix: k, After: key.Draw(t, "after"), Limit: rapid.IntRange(0, 4).Draw(t, "limit")}
				same(t, op, ways, func(r reach) string {
					p, err := r.KV().List(t.Context(), s, q)
					return said(err, "%q %t", p.Keys, p.More)
				})
			}
		}
	}))
	t.Run("http", rapid.MakeCheck(func(t *rapid.T) {
		ways := both()
		at := rapid.SampledFrom([]string{"", "write ", "response ", "read ", "close "}).Draw(t, "at")
		req := &capability.Request{
			Method: rapid.SampledFrom([]string{"GET", "POST"}).Draw(t, "method"), URL: "well",
			Timeout: time.Duration(rapid.Int64Range(0, 1<<50).Draw(t, "timeout")),
			Header:  []capability.Field{{Name: "A", Value: rapid.String().Draw(t, "value")}, {Name: "A", Value: "\xff"}},
		}
		if rapid.Bool().Draw(t, "fails") {
			req.URL = at + fails.Draw(t, "error")
		}
		var open [2]capability.Exchange
		same(t, "open", ways, func(r reach) string {
			x, err := r.HTTP().Open(t.Context(), scopeOf("i"), req)
			if err == nil {
				n := 1
				if r == ways[0] {
					n = 0
				}
				open[n] = x
			}
			return said(err, "")
		})
		if open[0] == nil {
			return
		}
		defer open[1].Close()
		compare := func(what string, f func(capability.Exchange) string) {
			if local, remote := f(open[0]), f(open[1]); local != remote {
				t.Fatalf("%s\nhere:  %s\nthere: %s", what, local, remote)
			}
		}
		for range rapid.IntRange(0, 20).Draw(t, "parts") {
			switch op := rapid.SampledFrom([]string{"write", "write", "response", "read", "read"}).Draw(t, "op"); op {
			case "write":
				b := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "body")
				compare(op, func(x capability.Exchange) string {
					n, err := x.Write(b)
					return said(err, "%d", n)
				})
			case "response":
				compare(op, func(x capability.Exchange) string {
					r, err := x.Response()
					if err != nil {
						return said(err, "")
					}
					return fmt.Sprint(*r)
				})
			case "read":
				size := rapid.IntRange(1, 50).Draw(t, "size")
				compare(op, func(x capability.Exchange) string {
					b := make([]byte, size)
					n, err := x.Read(b)
					return said(err, "%x", b[:n])
				})
			}
		}
		compare("close", func(x capability.Exchange) string { return said(x.Close(), "") })
	}))
	t.Run("messaging", rapid.MakeCheck(func(t *rapid.T) {
		ways := both()
		var subs [2]capability.Subscription
		group := ""
		if rapid.IntRange(0, 5).Draw(t, "fails") == 0 {
			group = fails.Draw(t, "error")
		}
		n := 0
		same(t, "subscribe", ways, func(r reach) string {
			sub, err := r.Messaging().Subscribe(t.Context(), scopeOf("i"), "t", group)
			if err == nil {
				subs[n] = sub
			}
			n++
			return said(err, "")
		})
		if subs[0] == nil {
			return
		}
		defer subs[1].Close()
		waiting, ended := 0, false
		receive := func(ctx context.Context) {
			var got [2]string
			for i, sub := range subs {
				m, err := sub.Receive(ctx)
				got[i] = said(err, "%s %x %d", m.Topic, m.Data, m.Dropped)
			}
			if got[0] != got[1] {
				t.Fatalf("receive\nhere:  %s\nthere: %s", got[0], got[1])
			}
		}
		for range rapid.IntRange(0, 100).Draw(t, "calls") {
			switch {
			case ended:
			case waiting < fakePending && rapid.Bool().Draw(t, "publish"):
				topic := rapid.OneOf(rapid.SampledFrom([]string{"t", "other"}), fails).Draw(t, "topic")
				data := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data")
				if rapid.IntRange(0, 20).Draw(t, "end") == 0 && topic == "t" {
					data, ended = []byte("end"), true
				}
				same(t, "publish", ways, func(r reach) string {
					return said(r.Messaging().Publish(t.Context(), scopeOf("i"), topic, data), "")
				})
				if topic == "t" {
					waiting++
				}
			case waiting > 0:
				receive(t.Context())
				waiting--
			}
		}
		for ; waiting > 0; waiting-- {
			receive(t.Context())
		}
		if !ended {
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			receive(gone)
		}
		for i, sub := range subs {
			if err := sub.Close(); err != nil {
				t.Fatalf("close %d: %v", i, err)
			}
			if _, err := sub.Receive(t.Context()); wire.Coded(err).Code != "PROVIDER_UNAVAILABLE" {
				t.Fatalf("after its end subscription %d gives %v", i, err)
			}
		}
	}))
	if err := far.Load().await(t.Context(), 0); err != nil {
		t.Error(err)
	}
}
