package agent

import (
	"context"
	"io"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster"
	"github.com/wasmatrix/wasmatrix/fsm"
)

// replicatedLog gives the rooms commands where the cluster knows bytes.
type replicatedLog struct{ cluster *cluster.Cluster }

func (l replicatedLog) Propose(ctx context.Context, cmd wasmatrix.Command) (any, error) {
	b, err := fsm.Encode(cmd)
	if err != nil {
		return nil, err
	}
	return l.cluster.Propose(ctx, b)
}

func (l replicatedLog) Read(ctx context.Context) error { return l.cluster.Read(ctx) }

// machine is the state machine, which tells when its state was replaced.
type machine struct {
	*fsm.FSM
	restored *pulse
}

// newMachine gives the state machine the same options on every server: they are
// part of what the log means.
func newMachine() machine { return machine{FSM: fsm.New(fsm.Options{}), restored: newPulse()} }

// Restore replaces the state: by an operator's snapshot, or, where this server
// was too far behind, by the leader's.
func (m machine) Restore(from io.Reader) error {
	err := m.FSM.Restore(from)
	m.restored.beat()
	return err
}

// Restored is closed when the state is replaced the next time.
func (m machine) Restored() <-chan struct{} { return m.restored.wait() }

// replicatedState gives the rooms the state machine's views.
type replicatedState struct{ machine }

func (s replicatedState) Snapshot() wasmatrix.Snapshot { return s.State() }
