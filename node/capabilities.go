package node

import (
	"context"
	"slices"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// SetGrants replaces what instances were given, and returns when every call under
// way that is not allowed any more has ended. Index is that of the state which the
// sets were read from: orders of an older one are refused from now on. Its errors
// are those of [Node.Execute], and TIMEOUT where calls have not ended when ctx has;
// no new ones were admitted since it was called.
func (n *Node) SetGrants(ctx context.Context, term uint64, boot wasmatrix.BootID, index uint64, sets []*wasmatrix.GrantSet) error {
	clients := make([][]*capability.Client, len(sets))
	n.mu.Lock()
	if err := n.obeys(term, boot); err != nil {
		n.mu.Unlock()
		return err
	}
	n.floor = max(n.floor, index)
	for i, set := range sets {
		clients[i] = slices.Clone(n.ending[set.Instance])
		if in := n.instances[set.Instance]; in != nil && in.client != nil {
			// Of an older epoch as well: it must not go on with more than it has. Where
			// there is none it begins with an order that is yet to come.
			clients[i] = append(clients[i], in.client)
		}
	}
	n.mu.Unlock()
	var failed error
	for i := range clients {
		for _, c := range clients[i] {
			if err := c.Set(ctx, sets[i]); err != nil {
				failed = err
			}
		}
	}
	return failed
}

// endingCalls notes that calls of a buried instance may not have ended. The caller
// holds mu.
func (n *Node) endingCalls(in *instance) {
	if !in.callsEnded {
		n.ending[in.id] = append(n.ending[in.id], in.client)
	}
}

// endedCalls notes that they have.
func (n *Node) endedCalls(in *instance) {
	n.mu.Lock()
	defer n.mu.Unlock()
	in.callsEnded = true
	left := slices.DeleteFunc(n.ending[in.id], func(c *capability.Client) bool { return c == in.client })
	if len(left) == 0 {
		delete(n.ending, in.id)
		return
	}
	n.ending[in.id] = left
}

// SetProviders tells which providers there are, all of them, as of a log index.
// Older ones change nothing. Its errors are those of [Node.Execute].
func (n *Node) SetProviders(_ context.Context, term uint64, boot wasmatrix.BootID, index uint64, providers []wasmatrix.PlacedProvider) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.obeys(term, boot); err != nil {
		return err
	}
	if index >= n.placed {
		n.placed = index
		n.cfg.Providers.Update(providers)
	}
	return nil
}

// watchLease ends the capability calls under way when the lease runs out.
func (n *Node) watchLease(ctx context.Context) {
	valid := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-n.leased:
		}
		left := time.Until(n.lease.end())
		switch {
		case left > 0 && !valid:
			valid = true
			n.gate.Resumed()
		case left <= 0 && valid:
			valid = false
			n.log.Warn("the lease has run out: capability calls fail until it is renewed")
			n.gate.Lapsed()
		}
		if left > 0 {
			timer.Reset(left)
		}
	}
}

const (
	denialPause   = time.Second // between batches, so that guests cannot flood the log
	denialBatch   = 64
	denialTimeout = 5 * time.Second
)

// sendDenials tells the leader what was refused, until ctx ends.
func (n *Node) sendDenials(ctx context.Context) {
	tick := time.NewTicker(denialPause)
	defer tick.Stop()
	var batch []wasmatrix.Denial // that waits to be acknowledged
	seq := uint64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if len(batch) == 0 {
			if batch = n.gate.Denials(denialBatch); len(batch) == 0 {
				continue
			}
			seq++
		}
		if n.reportDenials(ctx, seq, batch) == nil {
			batch = nil
		}
	}
}

func (n *Node) reportDenials(ctx context.Context, seq uint64, batch []wasmatrix.Denial) error {
	ctx, cancel := context.WithTimeout(ctx, denialTimeout)
	defer cancel()
	return n.cfg.Control.ReportDenials(ctx, n.cfg.ID, n.cfg.Boot, seq, batch)
}

// noProviders is a node without any.
type noProviders struct{}

func (noProviders) Update([]wasmatrix.PlacedProvider) {}

func (noProviders) KV(context.Context, *capability.Scope) (capability.KV, error) {
	return nil, errNoProviders()
}

func (noProviders) HTTP(context.Context, *capability.Scope) (capability.HTTP, error) {
	return nil, errNoProviders()
}

func (noProviders) Messaging(context.Context, *capability.Scope) (capability.Messaging, error) {
	return nil, errNoProviders()
}

func errNoProviders() error {
	return wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "this node has no capability providers")
}
