package cluster

import (
	"github.com/wasmatrix/wasmatrix/cluster/group"
)

// Server is a member of the Raft configuration.
type Server = group.Server

// Servers returns the Raft configuration as this server knows it.
func (c *Cluster) Servers() []Server { return c.servers() }

// LeaderChanges returns a channel that holds a value whenever Leader may have
// changed since it was last drained: who leads, or at which address. Stop ends
// it; call it once, when nobody reads any more.
func (c *Cluster) LeaderChanges() (changed <-chan struct{}, stop func()) {
	leaders, stopLeaders := c.group.LeadershipChanged()
	members, stopMembers := c.gossip.Load().Subscribe()
	out, end, done := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-leaders:
			case <-members:
			case <-end:
				return
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, func() {
		close(end)
		<-done
		stopLeaders()
		stopMembers()
	}
}
