package dispatch

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/scheduler"
)

// Log proposes commands to the replicated log.
type Log interface {
	// Propose returns once cmd is applied here, with the answer documented at
	// its type. An error that is not a [wasmatrix.Error] leaves the outcome
	// unknown.
	Propose(ctx context.Context, cmd wasmatrix.Command) (any, error)
}

// State reads the replicated state of this server.
type State interface {
	// Snapshot includes every command whose Propose has returned.
	Snapshot() wasmatrix.Snapshot
	// Changed is closed when the next command has been applied. Taken before
	// Snapshot it misses none.
	Changed() <-chan struct{}
}

// Agents talks to nodes. Calls may run concurrently, also for one node.
type Agents interface {
	// Execute hands orders to a node and returns once it has accepted them. Index
	// is that of the state from which they were composed. Orders may have been
	// taken although it fails, but for CONFLICT: the process there is another, it
	// has heard from a later leader, or it has taken a SetGrants of a later index.
	Execute(ctx context.Context, node *wasmatrix.Node, term, index uint64, orders []wasmatrix.Order) error
	// SetGrants replaces what instances were given, in whichever epoch the node has
	// them, unless it has a set of a later index. It returns once no call succeeds
	// any more that the sets do not allow. From then on the node refuses orders of
	// lower indexes. It may have obeyed although it fails.
	SetGrants(ctx context.Context, node *wasmatrix.Node, term, index uint64, sets []*wasmatrix.GrantSet) error
	// SetProviders tells a node of all providers, unless it has them of a later
	// index.
	SetProviders(ctx context.Context, node *wasmatrix.Node, term, index uint64, providers []wasmatrix.PlacedProvider) error
	// Ping returns the boot of the process that answers at the node's address.
	// Where nothing listens there, the error wraps [syscall.ECONNREFUSED].
	Ping(ctx context.Context, node *wasmatrix.Node) (wasmatrix.BootID, error)
	// Attach opens a stream to the node and returns when it breaks, which it does
	// at once when the node's process ends.
	Attach(ctx context.Context, node *wasmatrix.Node, term uint64) error
}

// Config configures a [Dispatcher]. Log, State and Agents are required; zero in
// any other field means its default.
type Config struct {
	Log    Log
	State  State
	Agents Agents
	Policy scheduler.Policy
	Logger hclog.Logger // default: discards

	// Fence raises the lowest epochs whose calls the kv store accepts, and returns
	// once that holds everywhere. The answer has those in force in the order of those
	// given: one that was higher already stays so, as it is where the state was
	// restored to an earlier one; the instance begins anew above it then. It is called
	// before an exclusive instance begins anew, and once in a term for all that are
	// older than the term. nil does without.
	Fence func(ctx context.Context, fences []wasmatrix.Fence) (inForce []wasmatrix.Fence, err error)

	// LeaseTTL is how long a node holds its lease without renewing it; default
	// 3 s. LeaseMargin is added where an exclusive instance is to be placed
	// anew, for clocks that run at different rates; default 500 ms.
	LeaseTTL, LeaseMargin time.Duration
	// PingTimeout bounds each of the two probes of a node that seems gone;
	// default 500 ms.
	PingTimeout time.Duration
	// PushTimeout bounds one call of a node that tells it something, and one of
	// Fence; default 5 s.
	PushTimeout time.Duration
	// RepushAfter is how long after its first push an order is pushed again
	// where nothing came of it; the delay doubles each time. Default 5 s.
	RepushAfter time.Duration

	// MaxWaiting bounds the start requests that wait for a plan, and MaxPending
	// the instances that wait for capacity; beyond, RESOURCE_EXHAUSTED. Defaults
	// 20,000 and 100,000.
	MaxWaiting, MaxPending int

	// KeepFinal is how long a stopped or crashed instance stays in the state,
	// MaxFinal how many of them do at most, KeepModules how long a module
	// without a name or user does, KeepNodes how long a node that is down does.
	// Defaults 24 h, 100,000, 24 h, 24 h.
	KeepFinal   time.Duration
	MaxFinal    int
	KeepModules time.Duration
	KeepNodes   time.Duration
	// CollectEvery is how often that is looked at; default 1 min.
	CollectEvery time.Duration
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.LeaseTTL, 3 * time.Second},
		{&c.LeaseMargin, 500 * time.Millisecond},
		{&c.PingTimeout, 500 * time.Millisecond},
		{&c.PushTimeout, 5 * time.Second},
		{&c.RepushAfter, 5 * time.Second},
		{&c.KeepFinal, 24 * time.Hour},
		{&c.KeepModules, 24 * time.Hour},
		{&c.KeepNodes, 24 * time.Hour},
		{&c.CollectEvery, time.Minute},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	for _, n := range []struct {
		field *int
		value int
	}{
		{&c.MaxWaiting, 20_000}, {&c.MaxPending, 100_000}, {&c.MaxFinal, 100_000},
	} {
		if *n.field <= 0 {
			*n.field = n.value
		}
	}
	return c
}

// Sizes of what is sent at once.
const (
	maxStartBatch  = 4096    // instances in one StartInstances, unless one item has more
	maxStartBytes  = 1 << 20 // rough size of its Specs
	maxPlaceBatch  = 2000    // items in one PlaceInstances
	maxPlaceCycle  = 16      // PlaceInstances commands of one plan
	maxStopBatch   = 4096    // items in one StopInstances
	maxReportBatch = 4096    // reports in one ApplyReports
	maxPushBatch   = 1024    // orders in one Execute
	maxPushBytes   = 2 << 20 // rough size of its Specs and grants
	maxGrantBatch  = 512     // sets in one SetGrants, of maxPushBytes too
	maxFenceBatch  = 1024    // fences in one call
	maxFenced      = 100_000 // fences that are remembered to be in force
	maxOutrunning  = 64      // RestartInstance commands under way at once for fences that are in force
	maxDenialBatch = 64      // denials in one RecordDenials, as many as it takes
	maxReplans     = 4       // plans of one start request that lose a race for capacity
	collectLimit   = 1000    // records of each kind in one CollectGarbage
)

// grantSize is roughly what a set of assignments takes on the wire.
func grantSize(g *wasmatrix.GrantSet) int {
	n := 64
	for _, a := range g.Assignments {
		n += 96 + len(a.Namespace)
		for _, p := range a.Permissions {
			n += len(p) + 2
		}
	}
	return n
}

// specSize is roughly what a Spec takes on the wire.
func specSize(s *wasmatrix.Spec) int {
	n := 128 + len(s.ModuleName)
	for _, a := range s.Args {
		n += len(a) + 4
	}
	for k, v := range s.Env {
		n += len(k) + len(v) + 8
	}
	for k, v := range s.Labels {
		n += len(k) + len(v) + 8
	}
	return n + 32*len(s.Constraints)
}
