package fsm

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Options bound the state. They must be the same on all peers, or their states
// differ. Zero means the default.
type Options struct {
	MaxFacts      int           // newest facts kept; default 50,000
	RequestWindow time.Duration // how long request IDs are remembered; default 5 minutes
	MaxRequests   int           // newest request IDs remembered; default 1,000,000
}

const (
	defaultMaxFacts      = 50_000
	defaultRequestWindow = 5 * time.Minute
	defaultMaxRequests   = 1_000_000
)

func (o Options) withDefaults() Options {
	if o.MaxFacts <= 0 {
		o.MaxFacts = defaultMaxFacts
	}
	if o.RequestWindow <= 0 {
		o.RequestWindow = defaultRequestWindow
	}
	if o.MaxRequests <= 0 {
		o.MaxRequests = defaultMaxRequests
	}
	return o
}

// FSM holds the live state. Apply, Snapshot and Restore are called by one
// goroutine at a time, as raft does; State and Changed by any.
type FSM struct {
	opts  Options
	specs specInterner // used by Apply and Restore only

	view atomic.Pointer[State] // copy of live that readers share; nil once it is stale

	mu      sync.Mutex
	live    *State        // guarded by mu
	changed chan struct{} // guarded by mu; nil while nobody waits
}

// New returns the empty state machine.
func New(opts Options) *FSM {
	return &FSM{opts: opts.withDefaults(), live: newState()}
}

// Apply applies one encoded command and answers as its type in the root package
// says, or with a *wasmatrix.Error. Several commands may share a log index.
//
// A command that only a newer release knows stops the peer, since its state
// would be wrong from there on: Apply panics with an *UnknownCommandError,
// unless the command is marked as ignorable; that is answered with nil.
func (f *FSM) Apply(index uint64, command []byte) any {
	cmd, version, err := decode(command)
	if unknown, ok := err.(*UnknownCommandError); ok && !unknown.Ignorable { //nolint:errorlint // Decode returns it unwrapped
		panic(unknown)
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	f.view.Store(nil)
	t := tx{State: f.live, opts: f.opts, specs: &f.specs, rules: version}
	t.index = index
	answer := t.apply(cmd, err)
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
	return answer
}

// State returns the state after the last applied command. It costs a few
// allocations after a command and a pointer until the next one, and waits at
// most for the command that is being applied.
func (f *FSM) State() *State {
	if s := f.view.Load(); s != nil {
		return s
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.view.Load(); s != nil {
		return s
	}
	s := f.live.fork()
	f.view.Store(s)
	return s
}

// Changed returns a channel that is closed when the next command is applied or
// a snapshot restored. A reader that takes it before State misses nothing.
func (f *FSM) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}

// Snapshot takes the state of the moment, at the price of State. The function
// that it returns writes it; it may run on any goroutine while commands are
// applied.
func (f *FSM) Snapshot() func(io.Writer) error {
	return f.State().WriteSnapshot
}

// Restore replaces the state with a snapshot's. When the snapshot is truncated,
// corrupted or of a newer format it returns an error that says what is wrong,
// and the state is as it was.
func (f *FSM) Restore(r io.Reader) error {
	s, _, err := readSnapshot(r, &f.specs)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.view.Store(nil)
	f.live = s
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
	return nil
}
