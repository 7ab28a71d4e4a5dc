package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// fencer keeps exclusive instances from beginning anew before no call of their
// earlier epochs can have an effect on the kv store.
type fencer struct {
	ready chan struct{} // has a token when something waits

	mu sync.Mutex // guards all below; taken after that of a link
	// inForce remembers fences that were raised in this term.
	inForce map[wasmatrix.InstanceID]wasmatrix.Fence
	waiting map[wasmatrix.InstanceID]heldBack
}

// heldBack is an instance whose order to start waits.
type heldBack struct {
	wasmatrix.Fence
	l *link
}

func newFencer() fencer {
	return fencer{
		ready:   make(chan struct{}, 1),
		inForce: make(map[wasmatrix.InstanceID]wasmatrix.Fence), waiting: make(map[wasmatrix.InstanceID]heldBack),
	}
}

// mayBegin reports whether a node may be told to start an instance. Where not,
// the instance is directed to it again once it may.
func (t *tenure) mayBegin(i *wasmatrix.Instance, l *link) bool {
	if !i.Spec.Exclusive {
		return true
	}
	f := &t.fencer
	f.mu.Lock()
	defer f.mu.Unlock()
	want := wasmatrix.Fence{Instance: i.ID, Incarnation: i.CreateIndex, Epoch: i.Epoch}
	if t.quiet(time.Now()) && (t.cfg.Fence == nil || i.Epoch <= 1 || f.inForce[i.ID] == want) {
		return true
	}
	f.waiting[i.ID] = heldBack{want, l}
	signal(f.ready)
	return false
}

// quiet reports whether every lease has been accounted for since the state was
// replaced: before, an epoch that it does not know may run anywhere.
func (t *tenure) quiet(at time.Time) bool {
	return !t.restored || !at.Before(t.leaseEnd(t.began))
}

// fence raises fences for what waits.
func (t *tenure) fence(ctx context.Context) {
	if !t.quiet(time.Now()) && !sleep(ctx, time.Until(t.leaseEnd(t.began))) {
		return
	}
	f := &t.fencer
	retry := backoff{first: 50 * time.Millisecond, limit: 2 * time.Second}
	for {
		select {
		case <-f.ready:
		case <-ctx.Done():
			return
		}
		held := f.take()
		if err := t.raise(ctx, held); err != nil {
			if ctx.Err() != nil {
				return
			}
			t.log.Warn("could not fence the earlier epochs of exclusive instances, which wait for it", "instances", len(held), "error", err)
			f.putBack(held)
			if !retry.wait(ctx) {
				return
			}
			continue
		}
		retry.reset()
		f.done(held)
		for _, h := range held {
			h.l.direct(h.Instance)
		}
	}
}

// raise calls Fence for those that need it.
func (t *tenure) raise(ctx context.Context, held []heldBack) error {
	var fences []wasmatrix.Fence
	for _, h := range held {
		if h.Epoch > 1 {
			fences = append(fences, h.Fence)
		}
	}
	if t.cfg.Fence == nil || len(fences) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.cfg.PushTimeout)
	defer cancel()
	return t.cfg.Fence(ctx, fences)
}

func (f *fencer) take() []heldBack {
	f.mu.Lock()
	defer f.mu.Unlock()
	var held []heldBack
	for id, h := range f.waiting {
		if len(held) == maxFenceBatch {
			signal(f.ready)
			break
		}
		held = append(held, h)
		delete(f.waiting, id)
	}
	return held
}

// putBack keeps what came meanwhile: it is of a later epoch.
func (f *fencer) putBack(held []heldBack) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range held {
		if _, newer := f.waiting[h.Instance]; !newer {
			f.waiting[h.Instance] = h
		}
	}
	signal(f.ready)
}

func (f *fencer) done(held []heldBack) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.inForce) > maxFenced {
		clear(f.inForce)
	}
	for _, h := range held {
		f.inForce[h.Instance] = h.Fence
	}
}

func signal(ready chan struct{}) {
	select {
	case ready <- struct{}{}:
	default:
	}
}
