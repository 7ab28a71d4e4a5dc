package node

import (
	"context"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

// instance is one epoch of an instance on this node.
type instance struct {
	id    wasmatrix.InstanceID
	epoch uint64
	spec  *wasmatrix.Spec // nil where only a stop is known of it
	logs  *logRing

	grants *wasmatrix.GrantSet // that it begins with; nil where only a stop is known of it
	client *capability.Client  // by which its guest calls providers, made at the launch

	// calls hands invocations to the guest that runs. Who waits to send is the
	// queue: channels serve those in order.
	calls    chan *engine.Call
	commands chan struct{} // closed when the module has turned out to be a command
	// owed are the answers of invocations under which the guest has ended. They
	// are its supervisor's, as the goroutine in which calls end.
	owed []func()

	ctx    context.Context // ends when the guest is to end
	cancel context.CancelFunc
	done   chan struct{} // closed when its guest and supervisor have ended

	// Guarded by Node.mu.
	status   wasmatrix.Status
	attempt  uint32 // from 1
	seq      uint64 // of the last report
	stopping bool   // asked to stop; the stop is to be reported
	buried   bool   // superseded, forgotten or acknowledged: nothing is reported any more
	pending  []wasmatrix.Report
	queued   bool              // is in the outbox
	last     *wasmatrix.Report // the newest report
	waiting  int               // invocations that wait to be taken
	settled  chan struct{}     // not nil while somebody waits for all reports to be acknowledged
	crashes  *crashLog         // nil before the first crash
	// callsEnded says that nothing of client is under way any more.
	callsEnded bool
}

// launch makes an instance and its supervisor, which waits for prev, the end of
// an older epoch, if that is not nil. The caller holds mu.
func (n *Node) launch(in *instance, prev <-chan struct{}) {
	in.ctx, in.cancel = context.WithCancel(n.guests)
	in.done = make(chan struct{})
	in.calls, in.commands = make(chan *engine.Call), make(chan struct{})
	if in.grants != nil {
		in.client, in.grants = n.gate.NewClient(in.grants), nil
	}
	in.status = wasmatrix.StatusStarting
	if in.logs == nil {
		in.logs = newLogRing(&n.logs)
	}
	in.logs.open()
	n.instances[in.id] = in
	if in.stopping {
		in.cancel() // before its supervisor looks for a guest to run
	}
	n.supervised.Add(1)
	s := &supervisor{n: n, in: in}
	go s.supervise(prev)
}

// bury ends an instance without a word to the control plane, and keeps what
// later orders and readers of its output may ask for. The caller holds mu and
// calls in.cancel afterwards.
func (n *Node) bury(in *instance) {
	in.buried = true
	in.pending = nil
	if in.client != nil {
		in.client.Shut() // its guest may take a while to end
		n.endingCalls(in)
	}
	in.settle()
	if n.instances[in.id] == in {
		delete(n.instances, in.id)
	}
	g := &grave{id: in.id, epoch: in.epoch, attempt: in.attempt, seq: in.seq, done: in.done, logs: in.logs, crashes: in.crashes}
	if in.status.Final() {
		g.final = in.last
	}
	n.ended.put(g)
}
