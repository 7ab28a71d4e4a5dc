package rpc

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// detailTimeout is how long a read waits for what only a node knows: what the
// state has is answered in any case.
const detailTimeout = time.Second

// GetCrashInfo answers with the crashes in the state, and with what the nodes on
// which they happened still remember of them.
func (i *instances) GetCrashInfo(ctx context.Context, m *api.GetCrashInfoRequest) (*api.GetCrashInfoResponse, error) {
	snap, inst, err := i.readInstance(ctx, m.GetInstanceId(), m.GetReadMode())
	if err != nil {
		return nil, err
	}
	res := &api.GetCrashInfoResponse{Crashed: inst.Status == wasmatrix.StatusCrashed, CrashCount: inst.Crashes}
	var asked []wasmatrix.NodeID
	for _, c := range snap.Crashes(inst.ID) {
		res.Crashes = append(res.Crashes, wire.CrashTo(c))
		if c.Kind != wasmatrix.CrashNodeLost && !slices.Contains(asked, c.Node) {
			asked = append(asked, c.Node)
		}
	}
	if n := len(res.Crashes); n > 0 && inst.LastError != "" {
		last := res.Crashes[n-1]
		res.LastError = &api.Error{Code: string(inst.LastError), Message: last.GetMessage(), Time: last.GetTime(), Details: map[string]string{"kind": last.GetKind()}}
	}
	res.DetailsMissing = i.addDetails(ctx, snap, inst.ID, asked, res.GetCrashes())
	return res, nil
}

// detailContext bounds what a read asks of nodes, and leaves the client the time
// to have its answer.
func detailContext(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := detailTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)/2)
	}
	return context.WithTimeout(ctx, timeout)
}

// addDetails asks nodes at once for what they remember, and returns why some
// cannot say.
func (i *instances) addDetails(ctx context.Context, snap wasmatrix.Snapshot, id wasmatrix.InstanceID, nodes []wasmatrix.NodeID, crashes []*api.Crash) string {
	ctx, cancel := detailContext(ctx)
	defer cancel()
	details := make([][]*api.CrashDetail, len(nodes))
	missing := make([]string, len(nodes))
	var wg sync.WaitGroup
	for n, nodeID := range nodes {
		node, ok := snap.Node(nodeID)
		switch {
		case !ok:
			missing[n] = "node " + string(nodeID) + " is not known any more"
		case node.Status != wasmatrix.NodeUp:
			missing[n] = "node " + string(nodeID) + " is down"
		default:
			wg.Go(func() {
				var err error
				if details[n], err = i.agents.CrashDetails(ctx, node.Addr, id); err != nil {
					missing[n] = "node " + string(nodeID) + " did not answer: " + wire.FromConnect(err).Message
				}
			})
		}
	}
	wg.Wait()
	for n, nodeID := range nodes {
		for _, d := range details[n] {
			for _, c := range crashes {
				if c.GetNode() == string(nodeID) && c.GetEpoch() == d.GetEpoch() && c.GetAttempt() == d.GetAttempt() {
					merge(c, d)
				}
			}
		}
	}
	return strings.Join(slices.DeleteFunc(missing, func(s string) bool { return s == "" }), "; ")
}

// merge completes a crash by what its node remembers. What is longer than a node
// may say is cut off, as the state machine does with what is reported to it.
func merge(c *api.Crash, d *api.CrashDetail) {
	if stack := d.GetStack(); len(stack) > len(c.GetStack()) {
		c.Stack = stack[:min(len(stack), wasmatrix.MaxDetailFrames)]
	}
	stderr := d.GetStderr()
	c.Stderr = stderr[max(0, len(stderr)-wasmatrix.MaxDetailStderr):]
}
