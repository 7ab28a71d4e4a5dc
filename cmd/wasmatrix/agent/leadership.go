package agent

import (
	"context"
	"sync"

	"github.com/wasmatrix/wasmatrix/cluster"
)

// leadership is the cluster as the API's forwarding sees it.
type leadership struct {
	cluster *cluster.Cluster

	mu      sync.Mutex
	changed chan struct{} // closed and renewed at each change
}

func newLeadership(c *cluster.Cluster) *leadership {
	return &leadership{cluster: c, changed: make(chan struct{})}
}

// Leader implements the API's view: a leader whose API address is not known yet
// is no help.
func (l *leadership) Leader() (apiAddr string, self, known bool) {
	leader := l.cluster.Leader()
	return leader.APIAddr, leader.Self, leader.Known && (leader.Self || leader.APIAddr != "")
}

// LeaderChanged is closed at the next change.
func (l *leadership) LeaderChanged() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

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
		l.mu.Lock()
		close(l.changed)
		l.changed = make(chan struct{})
		l.mu.Unlock()
	}
}
