package gossip

import (
	"cmp"
	"slices"
	"time"
)

// Status is what gossip believes of a member.
type Status string

// The states of a member. memberlist keeps to itself that it suspects a member,
// so a suspected one shows as alive until it has answered or is dead.
const (
	StatusAlive Status = "alive"
	StatusDead  Status = "dead" // did not answer; see the package comment
	StatusLeft  Status = "left" // said that it goes
)

// Member is one agent as gossip knows it.
type Member struct {
	Tags
	Addr   string // host:port of its gossip
	Status Status
	Since  time.Time // when this process saw the status begin
	Self   bool
}

// forgetAfter is how long dead members are remembered and contacted again, so
// that a partition may last a day and heal by itself; those that left likewise.
const forgetAfter = 24 * time.Hour

// record is a Member and what only this package needs of it.
type record struct {
	Member
	// foreign is set once a known member has said that it belongs to another
	// cluster: memberlist cannot be told to forget it.
	foreign bool
}

func (r *record) forgotten() bool {
	return r.Status != StatusAlive && time.Since(r.Since) > forgetAfter
}

// Members returns the members that are alive, and those that died or left
// within a day, by role and name. Members of other clusters are not among them.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Member, 0, len(g.records))
	for name, r := range g.records {
		if r.forgotten() {
			delete(g.records, name)
			continue
		}
		if r.foreign {
			continue
		}
		out = append(out, r.Member)
	}
	slices.SortFunc(out, func(a, b Member) int {
		return cmp.Or(-cmp.Compare(a.Role, b.Role), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// Member returns one of those that Members returns. It costs the same however
// many there are.
func (g *Gossip) Member(role Role, name string) (Member, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.records[memberName(role, name)]
	if r == nil || r.foreign || r.forgotten() {
		return Member{}, false
	}
	return r.Member, true
}

// alone reports whether no other member of the cluster is alive, or for a node
// no server: other nodes are of no use to it, and may be as lost as it is.
func (g *Gossip) alone() bool {
	for _, m := range g.Members() {
		if !m.Self && m.Status == StatusAlive && (m.Role == RoleServer || g.cfg.Role == RoleServer) {
			return false
		}
	}
	return true
}

// Subscribe returns a channel that holds a value whenever Members may have
// changed since it was last drained, beginning with one. Changes coalesce;
// nothing is lost, because the receiver reads Members anew. Stop ends the
// subscription; the channel is never closed.
func (g *Gossip) Subscribe() (changed <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	ch <- struct{}{}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.subscribers[ch] = struct{}{}
	return ch, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.subscribers, ch)
	}
}

// notify needs mu.
func (g *Gossip) notify() {
	for ch := range g.subscribers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
