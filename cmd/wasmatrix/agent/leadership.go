package agent

import (
	"context"

	"github.com/wasmatrix/wasmatrix/cluster"
)

// leadership is the cluster as the API's forwarding sees it.
type leadership struct {
	cluster *cluster.Cluster
	changed *pulse
}

func newLeadership(c *cluster.Cluster) *leadership {
	return &leadership{cluster: c, changed: newPulse()}
}

// Leader implements the API's view: a leader whose API address is not known yet
// is no help.
func (l *leadership) Leader() (apiAddr string, self, known bool) {
	leader := l.cluster.Leader()
	return leader.APIAddr, leader.Self, leader.Known && (leader.Self || leader.APIAddr != "")
}

// LeaderChanged is closed at the next change.
func (l *leadership) LeaderChanged() <-chan struct{} { return l.changed.wait() }

// follow passes changes on until ctx ends.
func (l *leadership) follow(ctx context.Context) {
	changes, stop := l.cluster.LeaderChanges()
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
		}
		l.changed.beat()
	}
}
