package agent

import (
	"context"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/gossip"
)

// lead is this server's work while it leads: it gives a new cluster its
// identity and dispatches. Ctx ends with the term.
func (s *server) lead(ctx context.Context, term uint64) {
	if err := s.settle(ctx); err != nil {
		// Without a majority there is nothing to lead; the term is about to end.
		s.log.Warn("leading, but the log does not move", "term", term, "error", err)
		<-ctx.Done()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.collect(ctx) })
	for ctx.Err() == nil {
		s.dispatchUntilRestored(ctx, term)
	}
	wg.Wait()
}

// settle returns once everything of earlier terms is applied here and the
// cluster has an identity.
func (s *server) settle(ctx context.Context) error {
	for {
		err := s.cluster.Read(ctx)
		if err == nil && s.machine.State().Cluster() == "" {
			_, err = replicatedLog{s.cluster}.Propose(ctx, wasmatrix.InitCluster{
				At: wasmatrix.TimeOf(time.Now()), Cluster: wasmatrix.ClusterID(randomID(16)),
			})
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		s.log.Debug("not settled yet", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// dispatchUntilRestored dispatches until ctx ends or a snapshot has replaced the
// state: what the dispatcher remembers of nodes is void then.
func (s *server) dispatchUntilRestored(ctx context.Context, term uint64) {
	restored := s.machine.Restored()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-restored:
			cancel()
		case <-inner.Done():
		}
	})
	s.dispatch.Lead(inner, term)
	cancel()
	wg.Wait()
}

// keepIdentity writes the cluster's identity to the data directory as soon as
// the state has it.
func (s *server) keepIdentity(ctx context.Context) {
	for {
		changed := s.machine.Changed()
		if id := s.machine.State().Cluster(); id != "" {
			if err := s.cluster.SetClusterID(id); err != nil {
				s.fail(err)
			}
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// watchNodes tells the dispatcher of nodes that gossip no longer hears.
func (s *server) watchNodes(ctx context.Context) {
	var told map[string]gossip.Status
	changed := s.cluster.MembersChanged()
	for {
		before := told
		told = make(map[string]gossip.Status, len(before))
		for _, m := range s.cluster.Members() {
			if m.Role != gossip.RoleNode {
				continue
			}
			if m.Status != gossip.StatusAlive && before[m.Name] == gossip.StatusAlive {
				s.dispatch.Suspect(wasmatrix.NodeID(m.Name), "gossip: "+string(m.Status))
			}
			told[m.Name] = m.Status
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// announce says when an agent started with -dev is ready for its first instance.
func (s *server) announce(ctx context.Context) {
	for {
		changed := s.machine.Changed()
		for n := range s.machine.State().Nodes() {
			if n.Eligible() {
				s.log.Info("ready: run a module with `wasmatrix run FILE`", "address", "http://"+s.listener.Addr().String(), "after", time.Since(s.started).Round(time.Millisecond))
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
