package harness

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// Load starts instances from several clients and remembers which starts were
// acknowledged. Every start has a request ID, so the client may retry it.
type Load struct {
	client *client.Client
	digest string
	prefix string

	mu    sync.Mutex
	begun int
	acked map[string]bool
	fails []error
}

// NewLoad makes a load of instances of a module, named prefix and a number.
func NewLoad(cl *client.Client, digest, prefix string) *Load {
	return &Load{client: cl, digest: digest, prefix: prefix, acked: map[string]bool{}}
}

// Run starts instances from n goroutines until total were begun (0: without
// end) or stop is done. It returns when every start that was begun has its
// answer; ctx ends those too.
func (l *Load) Run(ctx context.Context, stop <-chan struct{}, n, total int) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-ctx.Done():
					return
				default:
				}
				id, ok := l.take(total)
				if !ok {
					return
				}
				l.settle(id, l.start(ctx, id))
			}
		})
	}
	wg.Wait()
}

func (l *Load) take(total int) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if total > 0 && l.begun >= total {
		return "", false
	}
	l.begun++
	return fmt.Sprintf("%s-%04d", l.prefix, l.begun), true
}

func (l *Load) start(ctx context.Context, id string) error {
	res, err := l.client.Instances.StartInstance(ctx, &api.StartInstanceRequest{
		RequestId: "start-" + id, InstanceId: id, Queue: true,
		Module:  &api.StartInstanceRequest_ModuleDigest{ModuleDigest: l.digest},
		Restart: &api.RestartPolicy{Mode: api.RestartMode_RESTART_MODE_ON_FAILURE},
		Limits:  &api.Limits{MemoryBytes: 1 << 20},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", id, err)
	}
	if got := res.GetInstanceIds(); len(got) != 1 || got[0] != id {
		return fmt.Errorf("start %s was acknowledged as %v", id, got)
	}
	return nil
}

func (l *Load) settle(id string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.fails = append(l.fails, err)
		return
	}
	l.acked[id] = true
}

// Acked returns how many starts were acknowledged so far.
func (l *Load) Acked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// IDs returns the acknowledged instances, sorted.
func (l *Load) IDs() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.acked))
}

// Failures returns the starts that the client gave up on.
func (l *Load) Failures() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.fails)
}

// AwaitAcked blocks until n starts in all were acknowledged.
func (l *Load) AwaitAcked(tb TB, n int) {
	tb.Helper()
	Eventually(tb, fmt.Sprintf("%d acknowledged starts", n), func(context.Context) error {
		if got := l.Acked(); got < n {
			return fmt.Errorf("%d so far", got)
		}
		return nil
	})
}
