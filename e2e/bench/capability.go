package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// capabilities is a cluster on which guests measure their own calls.
type capabilities struct {
	p      *harness.Program
	c      *harness.Cluster
	cl     *client.Client
	digest string
	runs   int
}

func newCapabilities(p *harness.Program, s settings) (*capabilities, error) {
	c := harness.Start(p, harness.Options{
		Bin: s.bin, Servers: 3, Nodes: 2, LogStore: s.logStore, LogLevel: "warn",
		NodeExtra: "capabilities { calls = 10000000 }",
	})
	b := &capabilities{p: p, c: c, cl: c.Client()}
	var err error
	b.digest, err = harness.Push(p.Context(), b.cl, harness.Wasm(p, "e2e/testdata/probe", false))
	return b, err
}

// start runs the guest with arguments on a node.
func (b *capabilities) start(node string, grants []*api.CapabilityGrant, args ...string) (id string, err error) {
	b.runs++
	id = fmt.Sprintf("%s-%d", args[0], b.runs)
	_, err = b.cl.Instances.StartInstance(b.p.Context(), &api.StartInstanceRequest{
		InstanceId: id, Module: &api.StartInstanceRequest_ModuleDigest{ModuleDigest: b.digest},
		Args: args, Capabilities: grants, Constraints: []string{"node=" + node},
	})
	return id, err
}

// times waits for a guest's end and reads what it has printed.
func (b *capabilities) times(id string) ([]time.Duration, error) {
	in := b.c.AwaitStatus(b.cl, id, api.InstanceStatus_INSTANCE_STATUS_STOPPED)
	if in.GetExitCode() != 0 {
		return nil, fmt.Errorf("%s has ended with %d", id, in.GetExitCode())
	}
	out, err := b.output(id)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var all []time.Duration
		if json.Unmarshal(lines.Bytes(), &all) == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("%s has printed %.200q", id, out)
}

func (b *capabilities) output(id string) ([]byte, error) {
	stream, err := b.cl.Instances.StreamLogs(b.p.Context(), &api.StreamLogsRequest{InstanceId: id, Stream: api.LogStream_LOG_STREAM_STDOUT})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var out []byte
	for stream.Receive() {
		out = append(out, stream.Msg().GetData()...)
	}
	return out, stream.Err()
}

func kvGrant(change func(*api.CapabilityGrant)) []*api.CapabilityGrant {
	g := &api.CapabilityGrant{CapabilityId: "c", Type: "kv", Permissions: []string{"kv:read", "kv:write"}, Namespace: "bench"}
	if change != nil {
		change(g)
	}
	return []*api.CapabilityGrant{g}
}

// getCount fits into what a node keeps of an instance's output.
const getCount = "5000"

// measureS11 has guests get a small value, each call by the guest's own clock.
func measureS11(p *harness.Program, s settings) ([]result, error) {
	b, err := newCapabilities(p, s)
	if err != nil {
		return nil, err
	}
	far := &api.StartProviderRequest{ProviderId: "far", Type: "kv", Constraints: []string{"node=n2"}}
	if _, err := b.cl.Providers.StartProvider(p.Context(), far); err != nil {
		return nil, err
	}
	if err := b.fill("", "far"); err != nil {
		return nil, err
	}
	var results []result
	for _, m := range []struct {
		what, target string
		change       func(*api.CapabilityGrant)
	}{
		{"kv get from a guest, linearizable", "target p50 500 µs, stretch 200 µs", nil},
		{"kv get from a guest, stale", "target p50 50 µs, stretch 10 µs", func(g *api.CapabilityGrant) { g.Stale = true }},
		{"kv get by way of another node, linearizable", "the first", func(g *api.CapabilityGrant) { g.Provider = "far" }},
		{"kv get by way of another node, stale", "the second", func(g *api.CapabilityGrant) { g.Stale, g.Provider = true, "far" }},
	} {
		id, err := b.start("n1", kvGrant(m.change), "get", "c", "k", getCount)
		if err != nil {
			return nil, err
		}
		all, err := b.times(id)
		if err != nil {
			return nil, err
		}
		results = append(results, result{m.what, spread(all), m.target})
	}
	for _, stale := range []bool{false, true} {
		r, err := b.rate(stale)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

// fill writes the value that is read, for each provider: the store tells them apart.
func (b *capabilities) fill(providers ...string) error {
	for _, provider := range providers {
		id, err := b.start("n1", kvGrant(func(g *api.CapabilityGrant) { g.Provider = provider }), "kv", "c", "k")
		if err != nil {
			return err
		}
		b.c.AwaitStatus(b.cl, id, api.InstanceStatus_INSTANCE_STATUS_RUNNING)
		if _, err := b.cl.Instances.StopInstance(b.p.Context(), &api.StopInstanceRequest{InstanceId: id}); err != nil {
			return err
		}
	}
	return nil
}

// rate has 32 guests on each node get at the same time.
func (b *capabilities) rate(stale bool) (result, error) {
	const guests, gets = 32, 2000
	var ids []string
	began := time.Now()
	for n := range 2 * guests {
		id, err := b.start(fmt.Sprintf("n%d", 1+n%2), kvGrant(func(g *api.CapabilityGrant) { g.Stale = stale }), "get", "c", "k", strconv.Itoa(gets))
		if err != nil {
			return result{}, err
		}
		ids = append(ids, id)
	}
	var all []time.Duration
	for _, id := range ids {
		took, err := b.times(id)
		if err != nil {
			return result{}, err
		}
		all = append(all, took...)
	}
	took := time.Since(began)
	mode := "linearizable"
	if stale {
		mode = "stale"
	}
	return result{
		fmt.Sprintf("kv gets of %d guests on two nodes, %s", 2*guests, mode),
		fmt.Sprintf("%.0f /s with starting and ending the guests, %s", float64(len(all))/took.Seconds(), spread(all)), "",
	}, nil
}

// measureMessaging has a guest publish and another, on another node, take: what is
// measured is from before the one's call until after the other's, by one clock.
func measureMessaging(p *harness.Program, s settings) ([]result, error) {
	b, err := newCapabilities(p, s)
	if err != nil {
		return nil, err
	}
	grants := []*api.CapabilityGrant{{CapabilityId: "c", Type: "messaging", Permissions: []string{"msg:publish", "msg:subscribe"}}}
	pair := func(from string, count, pause int) (took, published []time.Duration, err error) {
		listener, err := b.start("n1", grants, "listen", "c", "t", strconv.Itoa(count))
		if err != nil {
			return nil, nil, err
		}
		harness.Eventually(p, "the listener listens", func(context.Context) error {
			out, err := b.output(listener)
			if err == nil && !strings.Contains(string(out), "listening") {
				err = errors.New("not yet")
			}
			return err
		})
		publisher, err := b.start(from, grants, "publish", "c", "t", strconv.Itoa(count), strconv.Itoa(pause))
		if err != nil {
			return nil, nil, err
		}
		if published, err = b.times(publisher); err != nil {
			return nil, nil, err
		}
		took, err = b.times(listener)
		return took, published, err
	}
	var results []result
	for _, from := range []string{"n1", "n2"} {
		took, _, err := pair(from, 2000, 500)
		if err != nil {
			return nil, err
		}
		what := "publish to deliver, guests on one node"
		if from == "n2" {
			what = "publish to deliver, guests on two nodes"
		}
		results = append(results, result{what, spread(took), ""})
	}
	_, published, err := pair("n2", 1000, 0)
	if err != nil {
		return nil, err
	}
	each := published[0] / 1000
	return append(results, result{"messages of one guest that publishes without a pause", fmt.Sprintf("%.0f /s, %s each", float64(time.Second)/float64(each), short(each)), ""}), nil
}
