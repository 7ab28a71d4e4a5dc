package fsm

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

// smallOptions make every bound come into play within one random log.
var smallOptions = Options{MaxFacts: 40, RequestWindow: 20 * time.Second, MaxRequests: 12}

// commandGen draws commands from small pools, so that they meet.
type commandGen struct{ now wasmatrix.Time }

func pick[T ~string](t *rapid.T, prefix string, n int) T {
	return T(fmt.Sprintf("%s%d", prefix, rapid.IntRange(0, n-1).Draw(t, prefix)))
}

func (g *commandGen) request(t *rapid.T) wasmatrix.Request {
	if rapid.IntRange(0, 3).Draw(t, "anonymous") == 0 {
		return wasmatrix.Request{}
	}
	return wasmatrix.Request{
		ID:   pick[wasmatrix.RequestID](t, "r", 40),
		Body: [16]byte{byte(rapid.IntRange(0, 8).Draw(t, "body") / 8)},
	}
}

func (g *commandGen) digest(t *rapid.T) wasmatrix.Digest { return digestOf(pick[string](t, "m", 3)) }

func (g *commandGen) spec(t *rapid.T) *wasmatrix.Spec {
	s := wasmatrix.Spec{
		Module:  g.digest(t),
		Restart: wasmatrix.RestartPolicy{Mode: wasmatrix.RestartMode(rapid.IntRange(0, 2).Draw(t, "mode"))},
		Limits:  wasmatrix.Limits{Memory: uint64(rapid.IntRange(1, 4).Draw(t, "memory")) * wasmatrix.WasmPage},
	}.WithDefaults()
	if rapid.Bool().Draw(t, "env") {
		s.Env = map[string]string{"A": pick[string](t, "v", 2), "B": "b", "C": "c"}
	}
	switch rapid.IntRange(0, 20).Draw(t, "schema 2") {
	case 0:
		s.Stdin = []byte(pick[string](t, "stdin", 2))
	case 1:
		s.Limits.Fuel = uint64(rapid.IntRange(1, 2).Draw(t, "fuel"))
	}
	if rapid.IntRange(0, 5).Draw(t, "constrained") == 0 {
		s.Constraints = []wasmatrix.Constraint{{Key: "zone", Values: []string{"a"}}}
	}
	return &s
}

func (g *commandGen) assignment(t *rapid.T) *wasmatrix.Assignment {
	a := &wasmatrix.Assignment{
		Instance: pick[wasmatrix.InstanceID](t, "i", 12), ID: pick[wasmatrix.CapabilityID](t, "c", 3),
		Grant: wasmatrix.Grant{Type: wasmatrix.ProviderKV, Permissions: []wasmatrix.Permission{"kv:read", wasmatrix.Permission("kv:write:" + pick[string](t, "p", 3))}},
	}
	switch rapid.IntRange(0, 11).Draw(t, "schema 3") {
	case 0:
		a.Provider = pick[wasmatrix.ProviderID](t, "p", 2)
	case 1:
		a.Namespace = pick[string](t, "namespace", 2)
	case 2:
		a.Stale = true
	}
	return a
}

func (g *commandGen) provider(t *rapid.T) wasmatrix.ProviderID {
	if rapid.IntRange(0, 3).Draw(t, "default provider") == 0 {
		return wasmatrix.DefaultProvider(wasmatrix.ProviderKV)
	}
	return pick[wasmatrix.ProviderID](t, "p", 2)
}

func (g *commandGen) boot(t *rapid.T, s *State, node wasmatrix.NodeID) wasmatrix.BootID {
	if n, ok := s.Node(node); ok && rapid.IntRange(0, 4).Draw(t, "same boot") > 0 {
		return n.Boot
	}
	return pick[wasmatrix.BootID](t, "b", 3)
}

// reports are about instances that the node holds, mostly as a node would
// write them, and about others.
func (g *commandGen) reports(t *rapid.T, s *State, node wasmatrix.NodeID) []wasmatrix.Report {
	held := slices.Collect(s.InstancesOn(node))
	var out []wasmatrix.Report
	for range rapid.IntRange(1, 4).Draw(t, "reports") {
		r := wasmatrix.Report{
			Instance: pick[wasmatrix.InstanceID](t, "i", 12), Epoch: 1, Attempt: 1,
			Seq:    uint64(rapid.IntRange(0, 6).Draw(t, "seq")),
			Status: wasmatrix.Status(rapid.IntRange(0, int(wasmatrix.StatusCrashed)).Draw(t, "status")),
			Reason: pick[string](t, "reason", 2), At: g.now,
		}
		if len(held) > 0 && rapid.IntRange(0, 5).Draw(t, "plausible") > 0 {
			i := rapid.SampledFrom(held).Draw(t, "held")
			r.Instance, r.Epoch = i.ID, i.Epoch
			r.Attempt = max(i.Attempt, 1) + uint32(rapid.IntRange(0, 2).Draw(t, "attempt")/2)
			r.Seq = i.Seq + 1
			r.Status = rapid.SampledFrom([]wasmatrix.Status{
				wasmatrix.StatusStarting, wasmatrix.StatusRunning, wasmatrix.StatusRunning, wasmatrix.StatusBackoff, wasmatrix.StatusBackoff,
				wasmatrix.StatusStopped, wasmatrix.StatusCrashed,
			}).Draw(t, "status")
		}
		if r.Status == wasmatrix.StatusBackoff || r.Status == wasmatrix.StatusCrashed {
			code := int32(rapid.IntRange(0, 2).Draw(t, "exit"))
			r.ExitCode = &code
			if code > 0 {
				r.Error = wasmatrix.CodeCrashDetected
				r.Crash = &wasmatrix.Crash{Kind: wasmatrix.CrashExit, Message: "m", ExitCode: &code, Stack: []string{"f", "g"}, Uptime: 5, At: g.now}
				if rapid.IntRange(0, 20).Draw(t, "metered") == 0 {
					r.Crash.Fuel, r.Crash.MemoryPeak = 7, uint64(rapid.IntRange(0, 1).Draw(t, "peak"))
				}
			}
		}
		out = append(out, r)
	}
	return out
}

func (g *commandGen) draw(t *rapid.T, s *State) wasmatrix.Command {
	g.now += wasmatrix.Time(rapid.SampledFrom([]time.Duration{0, time.Second, time.Second, 3 * time.Second, -time.Second, 30 * time.Second}).Draw(t, "tick"))
	at := g.now
	node := pick[wasmatrix.NodeID](t, "n", 4)
	instance := pick[wasmatrix.InstanceID](t, "i", 12)
	switch rapid.IntRange(0, 33).Draw(t, "command") {
	case 0:
		return wasmatrix.InitCluster{At: at, Cluster: pick[wasmatrix.ClusterID](t, "cluster", 2)}
	case 1, 2, 3:
		r := wasmatrix.Registration{
			ID: node, Boot: g.boot(t, s, node), Addr: "a:1", Version: "1",
			Capacity: wasmatrix.Capacity{Memory: 1 << 20, Instances: uint32(rapid.IntRange(1, 5).Draw(t, "instances"))},
		}
		if rapid.Bool().Draw(t, "labelled") {
			r.Labels = map[string]string{"zone": "a"}
		}
		return wasmatrix.RegisterNode{At: at, Registration: r}
	case 4:
		return wasmatrix.MarkNodeDown{At: at, Node: node, Boot: g.boot(t, s, node), Reason: "lease ran out"}
	case 5:
		return wasmatrix.DrainNode{At: at, Request: g.request(t), Node: node, Drain: rapid.IntRange(0, 2).Draw(t, "drain") == 0}
	case 6:
		return wasmatrix.ForgetNode{At: at, Request: g.request(t), Node: node}
	case 7, 8, 9, 10, 11, 12:
		var c wasmatrix.StartInstances
		c.At = at
		for range rapid.IntRange(1, 3).Draw(t, "items") {
			it := wasmatrix.StartItem{Request: g.request(t), Spec: g.spec(t)}
			for range rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(t, "count") {
				p := wasmatrix.Placement{Instance: pick[wasmatrix.InstanceID](t, "i", 12)}
				if rapid.IntRange(0, 3).Draw(t, "queue") > 0 {
					p.Node = pick[wasmatrix.NodeID](t, "n", 4)
				}
				it.Placements = append(it.Placements, p)
			}
			if rapid.IntRange(0, 2).Draw(t, "assigned") == 0 {
				it.Assignments = []*wasmatrix.Assignment{g.assignment(t)}
			}
			c.Items = append(c.Items, it)
		}
		return c
	case 13, 14, 15:
		c := wasmatrix.PlaceInstances{At: at, Items: []wasmatrix.PlaceItem{{Instance: instance, Node: node}}}
		for i := range s.Unplaced() {
			c.Items = append(c.Items, wasmatrix.PlaceItem{Instance: i.ID, Epoch: i.Epoch, Node: node})
		}
		return c
	case 16, 17:
		return wasmatrix.StopInstances{At: at, Items: []wasmatrix.StopItem{{Request: g.request(t), Instance: instance}}}
	case 18:
		return wasmatrix.RestartInstance{
			At: at, Request: g.request(t), Instance: instance,
			MinEpoch: rapid.SampledFrom([]uint64{0, 0, 0, 1, 4, wasmatrix.MaxMinEpoch + 1}).Draw(t, "least epoch"),
		}
	case 19, 20, 21, 22, 23, 24:
		return wasmatrix.ApplyReports{At: at, Node: node, Boot: g.boot(t, s, node), Reports: g.reports(t, s, node)}
	case 25:
		return wasmatrix.AssignCapability{At: at, Request: g.request(t), Assignment: g.assignment(t)}
	case 26:
		c := wasmatrix.RevokeCapability{At: at, Request: g.request(t), Instance: instance, Capability: pick[wasmatrix.CapabilityID](t, "c", 3)}
		if known := slices.Concat(s.assignments.Values()...); len(known) > 0 && rapid.IntRange(0, 4).Draw(t, "plausible") > 0 {
			a := rapid.SampledFrom(known).Draw(t, "assignment")
			c.Instance, c.Capability = a.Instance, a.ID
		}
		return c
	case 27:
		p := &wasmatrix.Provider{
			ID: g.provider(t), Type: wasmatrix.ProviderKV, Config: map[string]string{"x": "y", "a": "b"},
			Revision: uint64(rapid.IntRange(0, 2).Draw(t, "revision")), Stopped: rapid.Bool().Draw(t, "stopped"),
		}
		if rapid.IntRange(0, 9).Draw(t, "other type") == 0 {
			p.Type = wasmatrix.ProviderHTTP
		}
		return wasmatrix.PutProvider{At: at, Request: g.request(t), Provider: p, Create: p.Revision == 0 && rapid.Bool().Draw(t, "create")}
	case 28:
		return wasmatrix.RemoveProvider{At: at, Request: g.request(t), Provider: g.provider(t)}
	case 29:
		c := wasmatrix.AddModule{At: at, Request: g.request(t), Module: &wasmatrix.Module{Digest: g.digest(t), Size: 3, Kind: wasmatrix.ModuleReactor, Imports: []string{"env.x"}}}
		if rapid.Bool().Draw(t, "named") {
			c.Name = pick[string](t, "name", 2)
		}
		return c
	case 30:
		return wasmatrix.RemoveModule{At: at, Request: g.request(t), Digest: g.digest(t)}
	case 31, 32:
		c := wasmatrix.RecordDenials{At: at, Request: g.request(t), Node: node, Boot: g.boot(t, s, node)}
		for range rapid.IntRange(0, 3).Draw(t, "denials") {
			c.Denials = append(c.Denials, wasmatrix.Denial{
				Instance: pick[wasmatrix.InstanceID](t, "i", 12), Epoch: 1, Capability: pick[wasmatrix.CapabilityID](t, "c", 3),
				Operation: "kv.set", Reason: "no permission", Count: uint64(rapid.IntRange(1, 3).Draw(t, "times")),
			})
		}
		return c
	default:
		return wasmatrix.CollectGarbage{
			At: at, FinalBefore: at - wasmatrix.Time(10*time.Second), MaxFinal: rapid.IntRange(0, 4).Draw(t, "max final"),
			ModulesBefore: at - wasmatrix.Time(20*time.Second), Limit: rapid.IntRange(0, 5).Draw(t, "limit"),
		}
	}
}

// warm gives a machine what most commands need, so that random ones do not
// mostly fail.
func (g *commandGen) warm(m *machine) {
	g.now = m.now
	m.do(wasmatrix.InitCluster{At: g.now, Cluster: "c"})
	for n := range 3 {
		m.do(wasmatrix.AddModule{At: g.now, Module: &wasmatrix.Module{Digest: digestOf(fmt.Sprintf("m%d", n))}, Name: fmt.Sprintf("name%d", n)})
	}
	for n := range 3 {
		m.do(wasmatrix.RegisterNode{At: g.now, Registration: wasmatrix.Registration{
			ID: wasmatrix.NodeID(fmt.Sprintf("n%d", n)), Boot: "b0", Labels: map[string]string{"zone": "a"},
			Capacity: wasmatrix.Capacity{Memory: 1 << 30, Instances: 6},
		}})
	}
}

// TestGeneratorReachesEveryKind keeps the properties from being about little.
// The examples are the same in every run.
func TestGeneratorReachesEveryKind(t *testing.T) {
	missing := maps.Clone(knownFacts)
	answers := map[string]int{}
	run := rapid.Custom(func(t *rapid.T) *machine {
		var gen commandGen
		m := newMachine(t, smallOptions)
		gen.warm(m)
		for range 150 {
			err, _ := m.do(gen.draw(t, m.fsm.State())).(error)
			answers[string(wasmatrix.CodeOf(err))]++
			for f := range m.fsm.State().Facts(0) {
				delete(missing, string(f.Kind))
			}
		}
		return m
	})
	for seed := range 20 {
		run.Example(seed)
	}
	if len(missing) > 0 {
		t.Errorf("no random log has these facts: %v", slices.Sorted(maps.Keys(missing)))
	}
	if all := 20 * 150; answers[""] < all/2 || answers[""] > all*9/10 {
		t.Errorf("of %d commands so many were answered with which error: %v", all, answers)
	}
}
