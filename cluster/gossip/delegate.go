package gossip

import (
	"net"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/wasmatrix/wasmatrix"
)

// delegate is what memberlist calls. Most calls come with its lock held, so
// they copy, take mu for a moment, and return; what takes longer goes through
// the notice channel.
type delegate struct{ g *Gossip }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
	_ memberlist.MergeDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
)

// notice is something that a delegate saw and [Gossip.handleNotices] deals with.
type notice struct {
	refused error // a member that was refused, and why
	name    string
	rival   *net.UDPAddr // another member says that it has our name
	tags    Tags         // of the rival
}

func (d delegate) tell(n notice) {
	select {
	case d.g.notice <- n:
	default: // a flood; memberlist repeats itself
	}
}

func (d delegate) NodeMeta(int) []byte {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	return d.g.meta
}

func (delegate) NotifyMsg([]byte)                  {}
func (delegate) GetBroadcasts(_, _ int) [][]byte   { return nil }
func (delegate) LocalState(bool) []byte            { return nil }
func (delegate) MergeRemoteState(_ []byte, _ bool) {}

func (d delegate) NotifyJoin(n *memberlist.Node)   { d.record(n, true) }
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.record(n, true) }

// NotifyLeave comes for the dead and those that left alike; their last tags
// tell which.
func (d delegate) NotifyLeave(n *memberlist.Node) { d.record(n, false) }

func (d delegate) record(n *memberlist.Node, alive bool) {
	tags, err := decodeTags(n.Name, n.Meta)
	if err != nil {
		d.tell(notice{name: n.Name, refused: err})
		return
	}
	g := d.g
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.records[n.Name]
	if r == nil {
		r = new(record)
		g.records[n.Name] = r
	}
	was := r.Status
	r.Member = Member{Tags: tags, Addr: n.Address(), Status: StatusAlive, Since: r.Since, Self: n.Name == g.name}
	r.foreign = foreign(g.tags.Cluster, tags.Cluster)
	switch {
	case alive:
	case tags.Leaving:
		r.Status = StatusLeft
	default:
		r.Status = StatusDead
	}
	if r.Status != was {
		r.Since = time.Now()
	}
	g.notify()
}

// NotifyAlive refuses members of other clusters and those whose tags make no
// sense. One of our own name is ourselves, a rival (see NotifyConflict), or a
// member of another cluster, where names are given anew.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	err := d.check(n)
	if err != nil {
		d.tell(notice{name: n.Name, refused: err})
	}
	return err
}

// NotifyMerge refuses the exchange of states with a member of another cluster.
func (d delegate) NotifyMerge(peers []*memberlist.Node) error {
	for _, n := range peers {
		if n.State != memberlist.StateAlive {
			continue
		}
		if err := d.check(n); err != nil {
			d.tell(notice{name: n.Name, refused: err})
			return err
		}
	}
	return nil
}

func (d delegate) check(n *memberlist.Node) error {
	tags, err := decodeTags(n.Name, n.Meta)
	if err != nil {
		return err
	}
	g := d.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if !foreign(g.tags.Cluster, tags.Cluster) {
		return nil
	}
	if r := g.records[n.Name]; r != nil && n.Name != g.name && !r.foreign && r.Addr == n.Address() {
		r.foreign = true
		g.notify()
	}
	return wasmatrix.Errorf(wasmatrix.CodeConflict, "this agent belongs to cluster %s, but %s %s at %s to cluster %s",
		g.tags.Cluster, tags.Role, tags.Name, n.Address(), tags.Cluster).
		With("cluster", string(g.tags.Cluster)).With("other_cluster", string(tags.Cluster))
}

// NotifyConflict hears of a member with the name of another and a new address:
// a rival, or a restart at another address before the old one is known dead.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	if existing.Name != d.g.name {
		return // those two find out by themselves
	}
	tags, err := decodeTags(other.Name, other.Meta)
	if err != nil {
		return
	}
	d.tell(notice{name: other.Name, tags: tags, rival: &net.UDPAddr{IP: append(net.IP(nil), other.Addr...), Port: int(other.Port)}})
}
