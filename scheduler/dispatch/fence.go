package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// fencer keeps exclusive instances from beginning before no call of their earlier
// epochs can have an effect on the kv store, and from staying in an epoch whose
// calls the store refuses.
type fencer struct {
	ready chan struct{} // has a token when something waits

	mu sync.Mutex // guards all below; taken after that of a link
	// inForce remembers fences that were raised in this term.
	inForce map[wasmatrix.InstanceID]wasmatrix.Fence
	waiting map[wasmatrix.InstanceID]wasmatrix.Fence // to be raised
}

func newFencer() fencer {
	return fencer{
		ready:   make(chan struct{}, 1),
		inForce: make(map[wasmatrix.InstanceID]wasmatrix.Fence), waiting: make(map[wasmatrix.InstanceID]wasmatrix.Fence),
	}
}

// fenceOf is the fence that the present epoch of an instance needs.
func fenceOf(i *wasmatrix.Instance) wasmatrix.Fence {
	return wasmatrix.Fence{Instance: i.ID, Incarnation: i.CreateIndex, Epoch: i.Epoch}
}

// mayBegin reports whether a node may be told to start an instance. Where not,
// the instance is directed to its node again once it may.
func (t *tenure) mayBegin(i *wasmatrix.Instance) bool {
	if !i.Spec.Exclusive {
		return true
	}
	f := &t.fencer
	f.mu.Lock()
	defer f.mu.Unlock()
	want := fenceOf(i)
	if t.quiet(time.Now()) && (t.cfg.Fence == nil || t.first(i) || f.inForce[i.ID] == want) {
		return true
	}
	f.hold(want)
	return false
}

// quiet reports whether every lease has been accounted for since the state was
// replaced: before, an epoch that it does not know may run anywhere.
func (t *tenure) quiet(at time.Time) bool {
	return !t.restored || !at.Before(t.leaseEnd(t.began))
}

// first reports whether an instance is in the first epoch that its record ever
// had. Of a record from before the term the state cannot tell: it may be one that
// was restored, in this term or an earlier one, and may have forgotten epochs.
func (t *tenure) first(i *wasmatrix.Instance) bool {
	return i.Epoch <= 1 && i.CreateIndex > t.found
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
		left, err := t.resolve(ctx, f.take())
		if err == nil {
			retry.reset()
			continue
		}
		if ctx.Err() != nil {
			return
		}
		t.log.Warn("could not fence the earlier epochs of exclusive instances, which wait for it", "instances", len(left), "error", err)
		f.putBack(left)
		if !retry.wait(ctx) {
			return
		}
	}
}

// review has the fences of all exclusive instances raised that are older than the
// term, once in it. Most run, and nothing comes of it. But one may run in an epoch
// that the store refuses: where the state was restored to a time before a later
// epoch was fenced, and its node never left the old one.
func (t *tenure) review(ctx context.Context) {
	if t.cfg.Fence == nil || !sleep(ctx, time.Until(t.leaseEnd(t.began))) {
		return
	}
	f := &t.fencer
	for i := range t.cfg.State.Snapshot().Instances("") {
		if !i.Spec.Exclusive || !i.Status.OnNode() || i.CreateIndex > t.found {
			continue
		}
		f.mu.Lock()
		if want := fenceOf(i); f.inForce[i.ID] != want {
			f.hold(want)
		}
		f.mu.Unlock()
	}
}

// resolve raises fences. Where that does it, instances are directed to their nodes;
// where the epoch is one that the store refuses, a later one begins. Fences of
// which neither came are left, with an error.
func (t *tenure) resolve(ctx context.Context, fences []wasmatrix.Fence) (left []wasmatrix.Fence, err error) {
	inForce, err := t.raise(ctx, fences)
	if err != nil {
		return fences, err
	}
	var behind []overtaken
	ready := make([]wasmatrix.Fence, 0, len(fences))
	for n, f := range fences {
		if inForce[n].Epoch > f.Epoch {
			behind = append(behind, overtaken{f, inForce[n].Epoch})
		} else {
			ready = append(ready, f)
		}
	}
	t.fencer.done(ready)
	t.begin(ready)
	return t.outrun(ctx, behind)
}

// raise returns the fences in force, in the order of those given.
func (t *tenure) raise(ctx context.Context, fences []wasmatrix.Fence) ([]wasmatrix.Fence, error) {
	if t.cfg.Fence == nil || len(fences) == 0 {
		return fences, nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.cfg.PushTimeout)
	defer cancel()
	inForce, err := t.cfg.Fence(ctx, fences)
	if err != nil {
		return nil, err
	}
	if len(inForce) != len(fences) {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "kv has %d fences in force of %d that were raised", len(inForce), len(fences))
	}
	for n, f := range fences {
		if got := inForce[n]; got.Instance != f.Instance || got.Incarnation != f.Incarnation || got.Epoch < f.Epoch {
			return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "kv has fence %+v in force where %+v was raised", got, f)
		}
	}
	return inForce, nil
}

// begin directs those instances to their nodes that have not begun.
func (t *tenure) begin(fences []wasmatrix.Fence) {
	snap := t.cfg.State.Snapshot()
	starts := make(map[wasmatrix.NodeID][]wasmatrix.InstanceID)
	for _, f := range fences {
		if i, ok := snap.Instance(f.Instance); ok && i.Status == wasmatrix.StatusStarting && fenceOf(i) == f {
			starts[i.Node] = append(starts[i.Node], i.ID)
		}
	}
	for node, ids := range starts {
		t.link(node).direct(ids...)
	}
}

// hold notes that a fence is to be raised. The caller holds mu.
func (f *fencer) hold(want wasmatrix.Fence) {
	// Whoever asks for an earlier epoch has read an earlier state.
	if now, ok := f.waiting[want.Instance]; ok && (now.Incarnation > want.Incarnation || now.Incarnation == want.Incarnation && now.Epoch > want.Epoch) {
		return
	}
	f.waiting[want.Instance] = want
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

func (f *fencer) take() []wasmatrix.Fence {
	f.mu.Lock()
	defer f.mu.Unlock()
	var fences []wasmatrix.Fence
	for id, one := range f.waiting {
		if len(fences) == maxFenceBatch {
			f.hold(one) // signals that there is more
			break
		}
		fences = append(fences, one)
		delete(f.waiting, id)
	}
	return fences
}

func (f *fencer) putBack(fences []wasmatrix.Fence) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range fences {
		f.hold(one)
	}
}

func (f *fencer) done(fences []wasmatrix.Fence) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.inForce) > maxFenced {
		clear(f.inForce)
	}
	for _, one := range fences {
		f.inForce[one.Instance] = one
	}
}
