package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// connections is over how many clients the workers of a load are spread, for us
// and for etcd alike.
const connections = 16

// longestS3 bounds each load, so that what is accepted fits into the queue of 100,000.
const longestS3 = 5 * time.Second

// measureS3 compares acknowledged writes: for us an accepted start that waits
// for a node (validated, planned, replicated, fsynced on a majority), for etcd a
// put of a 256-byte value.
func measureS3(p *harness.Program, s settings) ([]result, error) {
	s.duration = min(s.duration, longestS3)
	var results []result
	theirs := map[int]float64{}
	if err := harness.Run(p.Context(), discard{}, func(p *harness.Program) error {
		endpoints, pids, err := startEtcd(p)
		if err != nil {
			return err
		}
		for _, n := range []int{1, s.clients} {
			rate, line, err := etcdWrites(p.Context(), endpoints, pids, n, s)
			if err != nil {
				return err
			}
			theirs[n] = rate
			results = append(results, result{fmt.Sprintf("etcd, %d clients", n), line, "the yardstick"})
		}
		return nil
	}); err != nil && !errors.Is(err, errNoEtcd) {
		return results, fmt.Errorf("etcd: %w", err)
	} else if err != nil {
		p.Logf("%v", err)
	}

	c := harness.Start(p, harness.Options{Bin: s.bin, Servers: 3, LogStore: s.logStore, LogLevel: "warn"})
	digest, err := pushReactor(p, c.Client())
	if err != nil {
		return results, err
	}
	for _, n := range []int{1, s.clients} {
		rate, line, err := ourWrites(p, c, digest, n, s)
		if err != nil {
			return results, err
		}
		against := "target 3 times etcd; etcd was not there"
		if t := theirs[n]; t > 0 {
			against = fmt.Sprintf("%.2f times etcd", rate/t)
		}
		results = append(results, result{fmt.Sprintf("acknowledged starts, %d clients", n), line, against})
	}
	return results, nil
}

func etcdWrites(ctx context.Context, endpoints []string, pids []int, n int, s settings) (float64, string, error) {
	var clients []*clientv3.Client
	for range min(n, connections) {
		cl, err := etcdClient(endpoints)
		if err != nil {
			return 0, "", err
		}
		defer cl.Close()
		clients = append(clients, cl)
	}
	value := strings.Repeat("x", 256)
	before := cpuOf(pids)
	rate, lat, err := hammer(ctx, n, s.duration, func(ctx context.Context, w, i int) error {
		_, err := clients[w%len(clients)].Put(ctx, fmt.Sprintf("key-%d-%d", w, i), value)
		return err
	})
	return rate, fmt.Sprintf("%.0f /s, %s; %s", rate, spread(lat), cpuOf(pids).per(before, len(lat))), err
}

func ourWrites(p *harness.Program, c *harness.Cluster, digest string, n int, s settings) (float64, string, error) {
	var clients []*client.Client
	for range min(n, connections) {
		clients = append(clients, c.Client())
	}
	var pids []int
	for _, a := range c.Servers {
		pids = append(pids, a.PID())
	}
	before := cpuOf(pids)
	rate, lat, err := hammer(p.Context(), n, s.duration, func(ctx context.Context, w, i int) error {
		_, err := clients[w%len(clients)].Instances.StartInstance(ctx, &api.StartInstanceRequest{
			InstanceId: fmt.Sprintf("w%d-%d-%d", n, w, i), Queue: true,
			Module: &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest},
		})
		return err
	})
	return rate, fmt.Sprintf("%.0f /s, %s; %s", rate, spread(lat), cpuOf(pids).per(before, len(lat))), err
}

// discard is a log that nobody reads.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
