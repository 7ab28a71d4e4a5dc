package node

import (
	"context"
	"crypto/rand"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/node/cpu"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

// ControlPlane is the leader, as a node sees it. Calls may fail at any time and
// are repeated; each has a deadline in its context.
type ControlPlane interface {
	Register(context.Context, wasmatrix.Registration) (wasmatrix.Lease, error)
	// Renew extends the lease. NODE_NOT_FOUND and CONFLICT make the node
	// register again, as [wasmatrix.Lease.Resync] does.
	Renew(context.Context, wasmatrix.NodeID, wasmatrix.BootID) (wasmatrix.Lease, error)
	// Report returns nil when the reports are replicated, or known to be old.
	Report(context.Context, wasmatrix.NodeID, wasmatrix.BootID, []wasmatrix.Report) error
	// ReportDenials returns nil when the denials are facts. Seq counts the batches
	// of a boot, so that a repeated one has its effect once.
	ReportDenials(ctx context.Context, id wasmatrix.NodeID, boot wasmatrix.BootID, seq uint64, denials []wasmatrix.Denial) error
}

// Providers are the capability providers of this node.
type Providers interface {
	capability.Providers
	// Update tells which providers there are, all of them. Calls come one at a time,
	// in order, and must not block.
	Update([]wasmatrix.PlacedProvider)
}

// Modules gives the bytes of a module, verified against its digest. Errors that
// are [wasmatrix.Error.Retryable] are tried again for a while.
type Modules interface {
	Module(context.Context, wasmatrix.Digest) ([]byte, error)
}

// Config says what a [Node] is and whom it talks to.
type Config struct {
	ID       wasmatrix.NodeID
	Boot     wasmatrix.BootID // "" draws one
	Addr     string           // host:port at which the leader reaches the agent service
	Version  string
	Labels   map[string]string
	Capacity wasmatrix.Capacity // what it offers; both parts are above zero

	Control ControlPlane
	Modules Modules
	Engine  *engine.Engine // stays the caller's, who closes it after the node
	Logger  hclog.Logger   // nil discards

	// Providers carry out the capability calls of guests; nil has none.
	Providers Providers
	// Capabilities bounds what one instance may ask of them.
	Capabilities capability.Limits

	LogRing  int // bytes of output kept for each instance; 0 means 64 KiB
	LogRate  int // bytes of output taken from each instance a second, the rest is dropped; 0 means 1 MiB
	LogBytes int // bytes of output kept in all, beyond which instances keep 4 KiB each; 0 means 1 GiB
	KeepLogs int // ended instances whose output is kept, the newest; 0 means 1,024
	Starts   int // instances that are instantiated at a time; 0 means two for each core
	// InvokeQueue is how many invocations wait for one instance; 0 means 128.
	InvokeQueue int

	guests loader // in place of Engine, for tests
}

// loader and guest are what a node needs of the engine.
type (
	loader interface {
		Load(context.Context, wasmatrix.Digest, engine.Fetch) (guest, error)
		Prepare(wasmatrix.Digest, engine.Fetch) bool
		Share(millis uint32) *cpu.Share
		Usage() engine.Usage
	}
	guest interface {
		Kind() wasmatrix.ModuleKind
		Run(context.Context, engine.RunConfig) engine.Exit
		Release()
	}
)

type wasmLoader struct{ *engine.Engine }

func (l wasmLoader) Load(ctx context.Context, d wasmatrix.Digest, fetch engine.Fetch) (guest, error) {
	m, err := l.Engine.Load(ctx, d, fetch)
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (l wasmLoader) Prepare(d wasmatrix.Digest, fetch engine.Fetch) bool {
	return l.Engine.Prepare(d, fetch)
}

const (
	defaultLogRing     = 64 << 10
	defaultLogRate     = 1 << 20
	defaultLogBytes    = 1 << 30
	defaultKeepLogs    = 1024
	defaultInvokeQueue = 128
	flushWait          = time.Second // for reports that are unsent at a shutdown
)

// Node runs guests. All methods may be called concurrently.
type Node struct {
	cfg    Config
	log    hclog.Logger
	starts chan struct{} // one element for each instance that is being instantiated
	lease  lease
	leased chan struct{} // one element: a lease was granted
	gate   *capability.Gate
	logs   logLimits

	guests     context.Context // ends when the guests are to end
	endGuests  context.CancelFunc
	life       context.Context // ends when Run is to return
	endLife    context.CancelFunc
	supervised sync.WaitGroup
	running    sync.WaitGroup // calls of Run
	gone       chan struct{}  // closed when the last guest has ended and none follows
	end        sync.Once

	wake     chan struct{} // one element: the reporter has something to do
	contact  chan struct{} // one element: the control plane has just answered
	register chan struct{} // one element: the control plane does not know this node

	mu      sync.Mutex // guards all below, and the fields of instances that say so
	closing bool
	term    uint64 // highest that was seen
	floor   uint64 // orders composed at a lower log index may say what was revoked
	placed  uint64 // log index of the providers that are known
	// ending are the clients of buried instances whose calls may not have ended.
	ending    map[wasmatrix.InstanceID][]*capability.Client
	enrolled  bool // the leader has this node's registration
	instances map[wasmatrix.InstanceID]*instance
	ended     graveyard
	room      room
	outbox    outbox
	crashes   crashShelf
}

// New makes a node; it does nothing before Run or Execute is called.
func New(cfg Config) (*Node, error) {
	if err := cfg.ID.Validate(); err != nil {
		return nil, err
	}
	if err := wasmatrix.ValidateLabels(cfg.Labels); err != nil {
		return nil, err
	}
	if cfg.Capacity.Memory == 0 || cfg.Capacity.Instances == 0 {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "a node offers memory and instances").With(wasmatrix.DetailField, "capacity")
	}
	if cfg.Boot == "" {
		cfg.Boot = wasmatrix.BootID(rand.Text())
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.LogRing <= 0 {
		cfg.LogRing = defaultLogRing
	}
	if cfg.LogRate <= 0 {
		cfg.LogRate = defaultLogRate
	}
	if cfg.LogBytes <= 0 {
		cfg.LogBytes = defaultLogBytes
	}
	if cfg.InvokeQueue <= 0 {
		cfg.InvokeQueue = defaultInvokeQueue
	}
	if cfg.KeepLogs <= 0 {
		cfg.KeepLogs = defaultKeepLogs
	}
	if cfg.Starts <= 0 {
		cfg.Starts = 2 * runtime.GOMAXPROCS(0)
	}
	if cfg.Providers == nil {
		cfg.Providers = noProviders{}
	}
	if cfg.guests == nil {
		cfg.guests = wasmLoader{cfg.Engine}
	}
	n := &Node{
		cfg:       cfg,
		log:       cfg.Logger,
		starts:    make(chan struct{}, cfg.Starts),
		leased:    make(chan struct{}, 1),
		gone:      make(chan struct{}),
		wake:      make(chan struct{}, 1),
		contact:   make(chan struct{}, 1),
		register:  make(chan struct{}, 1),
		instances: make(map[wasmatrix.InstanceID]*instance),
		ending:    make(map[wasmatrix.InstanceID][]*capability.Client),
		ended:     newGraveyard(cfg.KeepLogs),
		room:      room{limit: cfg.Capacity},
		logs:      logLimits{ring: cfg.LogRing, rate: cfg.LogRate, total: int64(cfg.LogBytes)},
	}
	n.gate = capability.NewGate(capability.Config{
		Providers: cfg.Providers, Alive: n.LeaseValid, Limits: cfg.Capabilities, Audit: cfg.Logger.Named("audit"),
	})
	n.guests, n.endGuests = context.WithCancel(context.Background())
	n.life, n.endLife = context.WithCancel(context.Background())
	return n, nil
}

// Ping tells which process this is.
func (n *Node) Ping() (wasmatrix.NodeID, wasmatrix.BootID) { return n.cfg.ID, n.cfg.Boot }

// Attached notes that the leader of a term holds a connection to this node. A
// term below the highest that was seen is CONFLICT.
func (n *Node) Attached(_ context.Context, term uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fence(term)
}

// LeaseValid reports whether the leader still counts this node as alive. It is
// told by the monotonic clock, from when the last renewal that succeeded was
// sent (I6).
func (n *Node) LeaseValid() bool { return n.lease.valid(time.Now()) }

// Shutdown ends the node in an orderly way: it takes no more orders, waits a
// moment for what has happened to be acknowledged, and ends the guests. Their
// ends are not reported: they are not crashes, and the leader learns of all of
// them at once when the node leaves or its lease runs out. It returns when
// the last guest has ended, or with the error of ctx. It may be called more
// than once, also to wait again.
func (n *Node) Shutdown(ctx context.Context) error {
	n.mu.Lock()
	n.closing = true
	n.mu.Unlock()

	flushing, cancel := context.WithTimeout(ctx, flushWait)
	n.flush(flushing)
	cancel()
	return n.endAll(ctx)
}

// Close ends the guests and Run, and waits for both, which is for ever where a
// guest cannot be interrupted. It may be called more than once.
func (n *Node) Close() error {
	n.mu.Lock()
	n.closing = true
	n.endLife()
	n.mu.Unlock()
	err := n.endAll(context.Background())
	n.running.Wait()
	return err
}

func (n *Node) endAll(ctx context.Context) error {
	n.endGuests()
	n.end.Do(func() {
		go func() {
			n.supervised.Wait()
			close(n.gone)
		}()
	})
	select {
	case <-n.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// poke puts an element into a channel that holds one.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
