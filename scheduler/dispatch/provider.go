package dispatch

import (
	"context"
	"reflect"
	"slices"
	"sync"

	"github.com/wasmatrix/wasmatrix"
)

// providers is what all nodes are to know of the providers.
type providers struct {
	placing sync.Mutex // held while they are placed, so that a newer state is never followed by an older

	mu      sync.Mutex // guards all below; taken after that of a link
	version uint64     // counts the changes of list in this term, from 1
	index   uint64     // of the state that list was read from
	list    []wasmatrix.PlacedProvider
}

func (p *providers) newest() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.version
}

// put reports whether list is another than before.
func (p *providers) put(index uint64, list []wasmatrix.PlacedProvider) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.version > 0 && slices.EqualFunc(p.list, list, samePlaced) {
		return false
	}
	p.version++
	p.index, p.list = index, list
	return true
}

func (p *providers) get() (version, index uint64, list []wasmatrix.PlacedProvider) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.version, p.index, p.list
}

func samePlaced(a, b wasmatrix.PlacedProvider) bool {
	return (a.Provider == b.Provider || reflect.DeepEqual(a.Provider, b.Provider)) &&
		a.Everywhere == b.Everywhere && slices.Equal(a.Hosts, b.Hosts)
}

// placeProviders has all nodes told where the providers are, if that has changed.
func (t *tenure) placeProviders() {
	t.providers.placing.Lock()
	snap := t.cfg.State.Snapshot()
	changed := t.providers.put(snap.Index(), wasmatrix.PlaceProviders(snap))
	t.providers.placing.Unlock()
	if !changed {
		return
	}
	for _, l := range t.all() {
		l.mu.Lock()
		l.send()
		l.mu.Unlock()
	}
}

// sendProviders reports whether the node took them.
func (s *sender) sendProviders(ctx context.Context, node *wasmatrix.Node) bool {
	l := s.l
	version, index, list := l.t.providers.get()
	sending, cancel := s.call(ctx)
	err := l.t.cfg.Agents.SetProviders(sending, node, l.t.term, index, list)
	cancel()
	if err != nil {
		return s.failed(ctx, "providers", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up && l.node.Boot == node.Boot {
		l.placed = max(l.placed, version)
	}
	return true
}
