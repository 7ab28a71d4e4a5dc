package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// pushReactor pushes the small reactor of examples/ and returns its digest.
func pushReactor(p *harness.Program, cl *client.Client) (string, error) {
	return harness.Push(p.Context(), cl, filepath.Join(harness.Root(p), "examples", "reactor", "reactor.wasm"))
}

func startReactor(ctx context.Context, cl *client.Client, digest, id string, count uint32) (*api.StartInstanceResponse, error) {
	return cl.Instances.StartInstance(ctx, &api.StartInstanceRequest{
		InstanceId: id, Count: count,
		Module:  &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest},
		Restart: &api.RestartPolicy{Mode: api.RestartMode_RESTART_MODE_ON_FAILURE},
		Limits:  &api.Limits{MemoryBytes: 1 << 20},
	})
}

// measureS1 starts one instance after another, and takes the time from the
// request until a watch of the API says running.
func measureS1(p *harness.Program, s settings) ([]result, error) {
	c := harness.Start(p, harness.Options{Bin: s.bin, Servers: 3, Nodes: 2, LogStore: s.logStore, LogLevel: "warn"})
	cl := c.Client()
	digest, err := pushReactor(p, cl)
	if err != nil {
		return nil, err
	}
	acked, all, err := startsOneByOne(p.Context(), cl, digest)
	if err != nil {
		return nil, err
	}
	return []result{
		{"one start to running, seen by a watch", spread(all), "target p50 15 ms, stretch 5 ms"},
		{"one start to acknowledged", spread(acked), ""},
	}, nil
}

// startsOneByOne returns how long starts took to be acknowledged, and until a
// watch said running.
func startsOneByOne(ctx context.Context, cl *client.Client, digest string) (acked, all []time.Duration, err error) {
	running, err := watchRunning(ctx, cl)
	if err != nil {
		return nil, nil, err
	}
	for i := range 220 {
		id := fmt.Sprintf("one-%d", i)
		began := time.Now()
		if _, err := startReactor(ctx, cl, digest, id, 1); err != nil {
			return nil, nil, err
		}
		ack := time.Since(began)
		for got := range running {
			if got == id {
				break
			}
		}
		if i >= 20 { // the first ones compile and open connections
			acked, all = append(acked, ack), append(all, time.Since(began))
		}
	}
	return acked, all, nil
}

// watchRunning sends the ID of each instance that becomes running.
func watchRunning(ctx context.Context, cl *client.Client) (<-chan string, error) {
	stream, err := cl.Instances.WatchInstances(ctx, &api.WatchInstancesRequest{})
	if err != nil {
		return nil, err
	}
	ready, out := make(chan struct{}), make(chan string, 1<<16)
	go func() {
		defer close(out)
		defer stream.Close()
		for stream.Receive() {
			switch m := stream.Msg(); {
			case m.GetBookmark():
				select {
				case <-ready:
				default:
					close(ready)
				}
			case m.GetInstance().GetStatus() == api.InstanceStatus_INSTANCE_STATUS_RUNNING:
				out <- m.GetInstance().GetInstanceId()
			}
		}
	}()
	select {
	case <-ready:
		return out, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// measureS2 starts many instances from many clients, one a request and a
// hundred a request, and takes the time until all of them run.
func measureS2(p *harness.Program, s settings) ([]result, error) {
	var results []result
	for _, run := range []struct {
		what          string
		total, batch  int
		clients       int
		targetComment string
	}{
		{"10,000 starts, one a request, 128 clients", 10_000, 1, 128, "target 3,000 /s, stretch 10,000 /s"},
		{"20,000 starts, 100 a request, 8 clients", 20_000, 100, 8, "target 3,000 /s, stretch 10,000 /s"},
	} {
		err := harness.Run(p.Context(), os.Stderr, func(p *harness.Program) error {
			rate, err := startMany(p, s, run.total, run.batch, run.clients)
			results = append(results, result{run.what, fmt.Sprintf("%.0f /s to running", rate), run.targetComment})
			return err
		})
		if err != nil {
			return results, err
		}
	}
	return results, nil
}

func startMany(p *harness.Program, s settings, total, batch, clients int) (float64, error) {
	c := harness.Start(p, harness.Options{Bin: s.bin, Servers: 3, Nodes: 2, LogStore: s.logStore, LogLevel: "warn", NodeMemory: "64GiB"})
	cl := c.Client()
	digest, err := pushReactor(p, cl)
	if err != nil {
		return 0, err
	}
	warm, err := startReactor(p.Context(), cl, digest, "warm", 2)
	if err != nil {
		return 0, err
	}
	running, err := watchRunning(p.Context(), cl)
	if err != nil {
		return 0, err
	}
	_ = warm
	var next atomic.Int64
	began := time.Now()
	failed := make(chan error, clients)
	for range clients {
		own := c.Client()
		go func() {
			for {
				i := next.Add(int64(batch)) - int64(batch)
				if i >= int64(total) {
					return
				}
				if _, err := startReactor(p.Context(), own, digest, fmt.Sprintf("m-%d", i), uint32(batch)); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	seen := map[string]bool{}
	for len(seen) < total {
		select {
		case id, ok := <-running:
			if !ok {
				return 0, errors.New("the watch ended")
			}
			if id[0] == 'm' {
				seen[id] = true
			}
		case err := <-failed:
			return 0, err
		case <-p.Context().Done():
			return 0, p.Context().Err()
		case <-time.After(harness.Patience):
			return 0, fmt.Errorf("only %d of %d run", len(seen), total)
		}
	}
	return float64(total) / time.Since(began).Seconds(), nil
}
