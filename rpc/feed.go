package rpc

import (
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// feed tells watchers of the replicated state that something happened, one
// goroutine for all of them. Facts say which instances were concerned, so that
// nobody looks at those that were not. It runs while it has watchers only: to
// take a view of the state has a price for those who change it.
type feed struct {
	state State

	mu        sync.Mutex
	closed    bool                                                // guarded by mu
	watchers  int                                                 // guarded by mu
	stop      chan struct{}                                       // guarded by mu; nil while not running
	snap      wasmatrix.Snapshot                                  // guarded by mu; the newest view that was told, nil before the first
	seen      uint64                                              // guarded by mu; every fact up to it was told
	replaced  bool                                                // guarded by mu; the next view need not follow from snap
	broadcast chan struct{}                                       // guarded by mu; closed when snap is replaced
	instances map[wasmatrix.InstanceID]map[chan struct{}]struct{} // guarded by mu
	running   sync.WaitGroup
}

// feedPace is the shortest time between two rounds: what happens meanwhile is
// told at once, so that watchers cost little however much happens.
const feedPace = time.Millisecond

func newFeed(state State) *feed {
	return &feed{state: state, instances: make(map[wasmatrix.InstanceID]map[chan struct{}]struct{})}
}

// enter counts a watcher in, and returns as next does a view that includes all
// that was applied before the call; leave counts it out.
func (f *feed) enter() (wasmatrix.Snapshot, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watchers++
	if f.stop == nil && !f.closed {
		f.stop = make(chan struct{})
		f.running.Add(1)
		go f.run(f.stop)
	}
	f.tell()
	return f.snap, f.broadcast
}

func (f *feed) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watchers--
	if f.watchers == 0 && f.stop != nil {
		close(f.stop)
		f.stop = nil
		f.snap = nil // an old view would hold on to all that has changed since
	}
}

// close ends the goroutine. Watchers must end by themselves.
func (f *feed) close() {
	f.mu.Lock()
	f.closed = true
	if f.stop != nil {
		close(f.stop)
		f.stop = nil
	}
	f.mu.Unlock()
	f.running.Wait()
}

// next returns the newest view and a channel that is closed when there is a
// newer one.
func (f *feed) next() (wasmatrix.Snapshot, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.snap, f.broadcast
}

// watch returns a channel that has a token whenever facts about the instance
// were told since the last one was taken, and its end.
func (f *feed) watch(id wasmatrix.InstanceID) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.instances[id] == nil {
		f.instances[id] = make(map[chan struct{}]struct{})
	}
	f.instances[id][c] = struct{}{}
	return c, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.instances[id], c)
		if len(f.instances[id]) == 0 {
			delete(f.instances, id)
		}
	}
}

func (f *feed) run(stop chan struct{}) {
	defer f.running.Done()
	pace := time.NewTimer(0)
	defer pace.Stop()
	for {
		select {
		case <-stop:
			return
		case <-pace.C:
		}
		changed, restored := f.state.Changed(), f.state.Restored()
		f.mu.Lock()
		f.tell()
		f.mu.Unlock()
		pace.Reset(feedPace)
		select {
		case <-stop:
			return
		case <-changed:
		case <-restored:
			f.mu.Lock()
			f.replaced = true
			f.mu.Unlock()
		}
	}
}

// tell gives the newest view to all, if anything happened, and wakes those whose
// instances it has facts about. Call it with mu held.
func (f *feed) tell() {
	if f.watchers == 0 {
		return
	}
	snap := f.state.Snapshot()
	first, last := snap.FactRange()
	switch {
	case f.snap == nil:
	case f.replaced:
		for id := range f.instances {
			f.wake(id)
		}
	case last == f.seen && snap.InstanceCount() == f.snap.InstanceCount():
		return
	case first > f.seen+1, last == f.seen:
		// More happened than is kept, or records were collected, which is no fact.
		for id := range f.instances {
			f.wake(id)
		}
	case len(f.instances) > 0:
		for fact := range snap.Facts(f.seen + 1) {
			f.wake(fact.Instance)
		}
	}
	f.snap, f.seen, f.replaced = snap, last, false
	if f.broadcast != nil {
		close(f.broadcast)
	}
	f.broadcast = make(chan struct{})
}

// wake gives a token to those who watch an instance. Call it with mu held.
func (f *feed) wake(id wasmatrix.InstanceID) {
	for c := range f.instances[id] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
