package store

import (
	"io"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// Options bound the state. They must be the same on all servers, or their states
// differ. Zero means the default.
type Options struct {
	// MaxWrites is how many of the newest writes are remembered, so that a
	// repetition gets the same answer; default 524,288, which at 35,000 writes a
	// second are those of the last 15 seconds.
	MaxWrites int
	// WriteWindow is how long a write is remembered at least, if there are not
	// too many; default one minute.
	WriteWindow time.Duration
}

const (
	defaultMaxWrites   = 1 << 19
	defaultWriteWindow = time.Minute
)

func (o Options) withDefaults() Options {
	if o.MaxWrites <= 0 {
		o.MaxWrites = defaultMaxWrites
	}
	if o.WriteWindow <= 0 {
		o.WriteWindow = defaultWriteWindow
	}
	return o
}

// Store holds the state. Apply, Snapshot and Restore are called by one goroutine
// at a time, as a Raft group does; all else by any.
type Store struct {
	opts Options

	mu   sync.RWMutex
	live *state // guarded by mu
}

// New returns the empty store.
func New(opts Options) *Store {
	return &Store{opts: opts.withDefaults(), live: newState()}
}

// Apply applies one encoded command and answers as its type says, or with a
// *wasmatrix.Error. Several commands may share a log index.
//
// A command that only a newer release knows stops the server, since its state
// would be wrong from there on: Apply panics with an *UnknownCommandError, unless
// the command is marked as ignorable; that is answered with nil.
func (s *Store) Apply(index uint64, command []byte) any {
	env, err := decode(command)
	if err != nil {
		if unknown, ok := err.(*UnknownCommandError); ok { //nolint:errorlint // decode returns it unwrapped
			if !unknown.Ignorable {
				panic(unknown)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := tx{state: s.live, opts: &s.opts}
	t.index = max(t.index, index)
	if err != nil {
		if _, ok := err.(*UnknownCommandError); ok { //nolint:errorlint // decode returns it unwrapped
			return nil
		}
		return wasmatrix.AsError(err)
	}
	return t.apply(env)
}

// Snapshot takes the state of the moment, at the price of a few allocations. The
// function that it returns writes it; it may run on any goroutine while commands
// are applied.
func (s *Store) Snapshot() func(io.Writer) error { return s.fork().write }

// Restore replaces the state with a snapshot's. When the snapshot is truncated,
// corrupted or of a newer format it returns an error that says what is wrong,
// and the state is as it was.
func (s *Store) Restore(r io.Reader) error {
	restored, _, err := read(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = restored
	return nil
}

// Hash is the SHA-256 of the state in its canonical form, the same on all servers
// that have applied the same commands. It reads the whole state, without holding
// up commands.
func (s *Store) Hash() [32]byte { return s.fork().hash() }

// HashAt is Hash, with the log index of the last command that it covers.
func (s *Store) HashAt() (hash [32]byte, index uint64) {
	f := s.fork()
	return f.hash(), f.index
}

func (s *Store) fork() *state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live.fork()
}
