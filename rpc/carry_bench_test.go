package rpc_test

import (
	"fmt"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// BenchmarkCarry is a get of kv that is carried to another process over loopback,
// whose store is a map: by one caller it is what carrying costs, by 64 how many a
// second there can be. Beside it a call of the API over the same connection.
func BenchmarkCarry(b *testing.B) {
	host := newFakeHost()
	c := newCluster(b, 1, func(cfg *rpc.Config) {
		cfg.Logger = hclog.NewNullLogger()
		cfg.Calls, cfg.PromptReads = host, true
	})
	addNode(b, c, "n1", "127.0.0.1:1")
	cl := c.Client(nil)
	carrier := client.NewCarrier(newTransport(b).DialContext, c.Servers[0].Addr)
	b.Cleanup(func() { carrier.Close() })
	kv, scope := carrier.KV(), scopeOf("i")
	scope.Alive = func() bool { return true }
	for _, size := range []int{16, 16 << 10} {
		if _, err := kv.Set(b.Context(), scope, fmt.Sprint(size), make([]byte, size), capability.SetOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	get := func(key string) func() error {
		return func() error {
			_, found, err := kv.Get(b.Context(), scope, key)
			if err == nil && !found {
				err = fmt.Errorf("it is gone")
			}
			return err
		}
	}
	for _, call := range []struct {
		name string
		f    func() error
	}{
		{"get", get("16")},
		{"get-16KiB", get("16384")},
		{"unary", func() error {
			_, err := cl.Nodes.GetNode(b.Context(), &api.GetNodeRequest{NodeId: "n1", Stale: true})
			return err
		}},
	} {
		b.Run(call.name+"/alone", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := call.f(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(call.name+"/64", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := call.f(); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
		})
	}
}
