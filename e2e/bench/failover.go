package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// measureS4 kills the leader and takes the time until a write that was begun
// afterwards is acknowledged.
func measureS4(p *harness.Program, s settings) ([]result, error) {
	c := harness.Start(p, harness.Options{Bin: s.bin, Servers: 3, LogStore: s.logStore, LogLevel: "warn"})
	cl := c.Client()
	digest, err := pushReactor(p, cl)
	if err != nil {
		return nil, err
	}
	var all []time.Duration
	for i := range s.rounds {
		leader := c.Leader()
		leader.Kill()
		began := time.Now()
		if _, err := cl.Instances.StartInstance(p.Context(), &api.StartInstanceRequest{
			InstanceId: fmt.Sprintf("after-%d", i), Queue: true,
			Module: &api.StartInstanceRequest_ModuleDigest{ModuleDigest: digest},
		}); err != nil {
			return nil, err
		}
		all = append(all, time.Since(began))
		leader.Start()
		c.WaitReady()
	}
	return []result{{"leader killed to next acknowledged write", spread(all), "target median 1 s, stretch 0.6 s; Nomad 3.1 s (DESIGN §9)"}}, nil
}

// measureS5 kills a node that runs 20 instances and takes the time until all of
// them run on the other.
func measureS5(p *harness.Program, s settings) ([]result, error) {
	c := harness.Start(p, harness.Options{Bin: s.bin, Servers: 3, Nodes: 2, LogStore: s.logStore, LogLevel: "warn"})
	cl := c.Client()
	digest, err := pushReactor(p, cl)
	if err != nil {
		return nil, err
	}
	const instances = 40
	res, err := startReactor(p.Context(), cl, digest, "moved", instances)
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for _, id := range res.GetInstanceIds() {
		all[id] = true
	}
	var took []time.Duration
	for i := range s.rounds {
		victim := c.Nodes[i%2]
		if err := waitRunning(p, c, all, ""); err != nil {
			return nil, err
		}
		victim.Kill()
		began := time.Now()
		if err := waitRunning(p, c, all, victim.Name); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
		victim.Start()
		c.WaitReady()
	}
	return []result{{fmt.Sprintf("node killed to %d instances running, none on it", instances), spread(took), "target median 3 s, stretch 0.8 s; Nomad 26.9 s by default, 0.9 s at its fastest setting (DESIGN §9)"}}, nil
}

// waitRunning returns once every one of ids runs, none on the node not.
func waitRunning(p *harness.Program, c *harness.Cluster, ids map[string]bool, not string) error {
	ctx, cancel := context.WithTimeout(p.Context(), harness.Patience)
	defer cancel()
	stream, err := c.Client().Instances.WatchInstances(ctx, &api.WatchInstancesRequest{})
	if err != nil {
		return err
	}
	defer stream.Close()
	good, marked := map[string]bool{}, false
	for stream.Receive() {
		m := stream.Msg()
		marked = marked || m.GetBookmark()
		if in := m.GetInstance(); in != nil && ids[in.GetInstanceId()] {
			if in.GetStatus() == api.InstanceStatus_INSTANCE_STATUS_RUNNING && in.GetNode() != not {
				good[in.GetInstanceId()] = true
			} else {
				delete(good, in.GetInstanceId())
			}
		}
		if marked && len(good) == len(ids) {
			return nil
		}
	}
	return fmt.Errorf("%d of %d run: %w", len(good), len(ids), stream.Err())
}

// measureS12 takes the resident memory of servers that have nothing to do.
func measureS12(p *harness.Program, s settings) ([]result, error) {
	c := harness.Start(p, harness.Options{Bin: s.bin, Servers: 3, Nodes: 1, LogStore: s.logStore, LogLevel: "warn"})
	select {
	case <-time.After(s.duration): // idle is what is measured
	case <-p.Context().Done():
		return nil, p.Context().Err()
	}
	var largest harness.Memory
	for _, a := range c.Servers {
		if m := a.Memory(); m.Resident > largest.Resident {
			largest = m
		}
	}
	mb := func(n uint64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
	program := "the program's file"
	if info, err := os.Stat(s.bin); err == nil {
		program += " of " + mb(uint64(info.Size()))
	}
	return []result{{
		"resident memory of an idle server, the largest of three",
		mb(largest.Resident) + ", of which " + mb(largest.File) + " are pages of " + program + ", which all processes of a machine share",
		"target 40 MB, stretch 25 MB; Nomad 88 to 95 MB (DESIGN §9)",
	}}, nil
}
