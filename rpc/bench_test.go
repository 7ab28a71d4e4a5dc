package rpc_test

import (
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc"
)

// BenchmarkCall is one call through client, HTTP/2 on loopback and server, over
// state machines in memory: what the API layer itself costs.
func BenchmarkCall(b *testing.B) {
	c := newCluster(b, 2, func(cfg *rpc.Config) { cfg.Logger = hclog.NewNullLogger() })
	addNode(b, c, "n1", "127.0.0.1:1")
	for _, via := range []struct {
		name   string
		server int
	}{{"leader", 0}, {"follower", 1}} {
		cl := c.Client(nil, via.server)
		for _, call := range []struct {
			name string
			f    func() error
		}{
			{"stale", func() error {
				_, err := cl.Nodes.GetNode(b.Context(), &api.GetNodeRequest{NodeId: "n1", Stale: true})
				return err
			}},
			{"read", func() error {
				_, err := cl.Nodes.GetNode(b.Context(), &api.GetNodeRequest{NodeId: "n1"})
				return err
			}},
			{"write", func() error {
				_, err := cl.Nodes.DrainNode(b.Context(), &api.DrainNodeRequest{NodeId: "n1"})
				return err
			}},
		} {
			b.Run(via.name+"/"+call.name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(32)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := call.f(); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}
