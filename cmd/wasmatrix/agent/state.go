package agent

import (
	"context"

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

// replicatedState gives the rooms the state machine's views.
type replicatedState struct{ *fsm.FSM }

func (s replicatedState) Snapshot() wasmatrix.Snapshot { return s.State() }
