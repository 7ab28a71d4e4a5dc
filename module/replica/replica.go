// Package replica keeps on every server's disk each module that the replicated
// state names: it takes pushes on the leader, copies them to a majority before
// the log names them, fetches what a server misses, and deletes what no state
// names any more.
package replica

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/module"
)

// Peer is a server of the cluster.
type Peer struct {
	Name  string
	Addr  string // host:port of its API; "" where it is not known at present
	Voter bool
	Self  bool
}

// Cluster tells who the servers are.
type Cluster interface {
	// Peers lists the servers of the Raft configuration, this one included. It
	// does not block.
	Peers() []Peer
}

// Copier moves modules between servers.
type Copier interface {
	// Store returns nil once the peer has the bytes on its disk. The peer may
	// say so without reading them.
	Store(ctx context.Context, addr string, d wasmatrix.Digest, size int64, r io.Reader) error
	// Fetch copies a module from the disk of a peer, which asks no others.
	Fetch(ctx context.Context, addr string, d wasmatrix.Digest, w io.Writer) error
}

// Log is the replicated log.
type Log interface {
	Propose(context.Context, wasmatrix.Command) (any, error)
}

// State is the replicated state.
type State interface {
	Snapshot() wasmatrix.Snapshot
	// Changed is closed at the next change.
	Changed() <-chan struct{}
}

// Config is what a [Replicator] works with. The durations have defaults.
type Config struct {
	Store     *module.Store
	Cluster   Cluster
	Copier    Copier
	Log       Log
	State     State
	MaxModule int64 // bytes; 0 is [wasmatrix.DefaultMaxModule]
	Logger    hclog.Logger
	// Check refuses a module that was pushed, before any server keeps it; nil
	// takes all.
	Check func(*wasmatrix.Module) error

	// Grace is how long a module stays on the disk while the state does not
	// name it; 0 is 10 minutes. A push takes less from its first copy to its
	// entry in the log.
	Grace time.Duration
	// Stall is how long a transfer may make no progress; 0 is 15 seconds.
	Stall time.Duration
	// Scrub is the time between two modules whose files are verified, in turn;
	// 0 is a minute, and below 0 none is.
	Scrub time.Duration
}

const (
	defaultGrace = 10 * time.Minute
	defaultStall = 15 * time.Second
	defaultScrub = time.Minute
)

// Replicator is the module service of one server. All methods may be called
// from any goroutine.
type Replicator struct {
	cfg     Config
	log     hclog.Logger
	flights module.Flights // fetches
	wake    chan struct{}  // of Run; holds one

	life context.Context // of copies that outlive their push
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	// busy counts the pushes and stores under way of a module: it is neither
	// fetched nor deleted.
	busy map[wasmatrix.Digest]int
	// unnamed is since when a module is on the disk that the state does not name.
	unnamed map[wasmatrix.Digest]time.Time
}

// New makes a Replicator. The caller runs [Replicator.Run] and, at the end,
// [Replicator.Close].
func New(c Config) *Replicator {
	if c.MaxModule <= 0 {
		c.MaxModule = wasmatrix.DefaultMaxModule
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	c.Grace = orDefault(c.Grace, defaultGrace)
	c.Stall = orDefault(c.Stall, defaultStall)
	c.Scrub = orDefault(c.Scrub, defaultScrub)
	r := &Replicator{
		cfg: c, log: c.Logger, wake: make(chan struct{}, 1),
		busy: make(map[wasmatrix.Digest]int), unnamed: make(map[wasmatrix.Digest]time.Time),
	}
	r.life, r.end = context.WithCancel(context.Background())
	return r
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// Close ends the copies that go on after their push was acknowledged, and waits
// for them. It does not end Run; that is its context's part.
func (r *Replicator) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.wg.Wait()
	return nil
}

// begin runs f on a goroutine that Close waits for, or not at all once closed.
func (r *Replicator) begin(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.wg.Go(f)
	return true
}

// hold keeps a module from being fetched and deleted until release is called,
// and from being deleted for a grace period after that.
func (r *Replicator) hold(d wasmatrix.Digest) (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy[d]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.busy[d]--; r.busy[d] == 0 {
			delete(r.busy, d)
		}
		delete(r.unnamed, d) // counts anew when Run sees it next
	}
}

func (r *Replicator) isBusy(d wasmatrix.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.busy[d] > 0
}

// poke makes Run look again.
func (r *Replicator) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Store keeps bytes that a peer hands over, and nothing else: it says nothing
// of them to the log. They are synchronised when it returns nil.
func (r *Replicator) Store(ctx context.Context, d wasmatrix.Digest, size int64, body io.Reader) error {
	if size > r.cfg.MaxModule {
		return errTooLarge(size, r.cfg.MaxModule)
	}
	defer r.hold(d)()
	return r.cfg.Store.Write(ctx, d, size, body)
}

// Remove takes a module's record out of the state. The files go after a grace
// period.
func (r *Replicator) Remove(ctx context.Context, req wasmatrix.Request, d wasmatrix.Digest) error {
	_, err := r.cfg.Log.Propose(ctx, wasmatrix.RemoveModule{At: wasmatrix.TimeOf(time.Now()), Request: req, Digest: d})
	return err
}

func errNoAddress(p Peer) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeCommunication, "the address of server %s is not known", p.Name)
}

func errTooLarge(size, limit int64) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "module of %s is larger than %s, the largest allowed",
		wasmatrix.FormatBytes(uint64(size)), wasmatrix.FormatBytes(uint64(limit)))
}
