package rpc_test

import (
	"bytes"
	"net/http"
	"testing"

	"go.uber.org/goleak"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/fsm"
	"github.com/wasmatrix/wasmatrix/module"
	"github.com/wasmatrix/wasmatrix/rpc"
	"github.com/wasmatrix/wasmatrix/rpc/client"
	"github.com/wasmatrix/wasmatrix/rpc/rpctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// machine is the real state machine.
type machine struct {
	*fsm.FSM
	replaced chan struct{} // closed by restore, once
}

func newMachine() rpctest.Machine { return machineOf(fsm.Options{}) }

func machineOf(opts fsm.Options) machine {
	return machine{FSM: fsm.New(opts), replaced: make(chan struct{})}
}

func (m machine) Restored() <-chan struct{} { return m.replaced }

// restore replaces the state by that of another machine.
func (m machine) restore(t testing.TB, by machine) {
	t.Helper()
	var b bytes.Buffer
	if err := by.State().WriteSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(&b); err != nil {
		t.Fatal(err)
	}
	close(m.replaced)
}

func (m machine) Snapshot() wasmatrix.Snapshot { return m.State() }

func (m machine) Apply(index uint64, cmd wasmatrix.Command) any {
	b, err := fsm.Encode(cmd)
	if err != nil {
		return err
	}
	return m.FSM.Apply(index, b)
}

// newCluster starts n servers over the real state machine and the real check of modules.
func newCluster(t testing.TB, n int, configure ...func(*rpc.Config)) *rpctest.Cluster {
	t.Helper()
	c := rpctest.New(t, n, newMachine, configure...)
	c.Modules.Inspect = func(b []byte) (*wasmatrix.Module, error) { return module.InspectBytes(b, 1<<20) }
	return c
}

// wasm is the smallest module, a reactor that does nothing.
var wasm = []byte{0, 'a', 's', 'm', 1, 0, 0, 0}

// addNode registers a node at an address.
func addNode(t testing.TB, c *rpctest.Cluster, id wasmatrix.NodeID, addr string) {
	t.Helper()
	if _, err := c.Servers[0].Propose(t.Context(), wasmatrix.RegisterNode{At: 2, Registration: wasmatrix.Registration{
		ID: id, Boot: "boot", Addr: addr, Capacity: wasmatrix.Capacity{Memory: 1 << 40, Instances: 100_000},
	}}); err != nil {
		t.Fatal(err)
	}
}

// addModule records the smallest module under a name.
func addModule(t testing.TB, c *rpctest.Cluster, name string) wasmatrix.Digest {
	t.Helper()
	d := c.Modules.Put(wasm)
	if _, err := c.Servers[0].Propose(t.Context(), wasmatrix.AddModule{At: 2, Module: &wasmatrix.Module{
		Digest: d, Size: int64(len(wasm)), Kind: wasmatrix.ModuleReactor,
	}, Name: name}); err != nil {
		t.Fatal(err)
	}
	return d
}

// report has the node say something about an instance.
func report(t testing.TB, c *rpctest.Cluster, node wasmatrix.NodeID, id wasmatrix.InstanceID, seq uint64, status wasmatrix.Status) {
	t.Helper()
	if _, err := c.Servers[0].Propose(t.Context(), wasmatrix.ApplyReports{At: 3, Node: node, Boot: "boot", Reports: []wasmatrix.Report{
		{Instance: id, Epoch: 1, Attempt: 1, Seq: seq, Status: status},
	}}); err != nil {
		t.Fatal(err)
	}
}

func newTransport(t testing.TB) *http.Transport {
	rt := client.NewTransport()
	t.Cleanup(rt.CloseIdleConnections)
	return rt
}
