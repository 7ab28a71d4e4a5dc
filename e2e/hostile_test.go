package e2e

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/e2e/harness"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// probeCommand is testdata/probe, in place of a guest of testdata/hostile.
const probeCommand = "probe"

func numbers(ns ...float64) []*structpb.Value {
	out := make([]*structpb.Value, len(ns))
	for i, n := range ns {
		out[i] = structpb.NewNumberValue(n)
	}
	return out
}

// leastMemory lets many fit on a node.
func leastMemory(r *api.StartInstanceRequest) {
	r.Limits = &api.Limits{MemoryBytes: wasmatrix.WasmPage}
}

// restartAtOnce has an instance started again whatever happens, without delay.
func restartAtOnce(r *api.StartInstanceRequest) {
	r.Restart = &api.RestartPolicy{
		Mode:    api.RestartMode_RESTART_MODE_ALWAYS,
		Backoff: &api.Backoff{Initial: durationpb.New(0), Multiplier: 1, Max: durationpb.New(0)},
	}
}

// stackIsWithin sees that deep calls have made the node's heap, where the engine
// keeps native stacks, larger, and not by more than most bytes.
func stackIsWithin(most uint64) func(t *testing.T, before, now *api.NodeUsage) {
	return func(t *testing.T, before, now *api.NodeUsage) {
		grown := now.GetHeapBytes() - before.GetHeapBytes()
		t.Logf("the stacks are some %d KiB, of %d", grown>>10, most>>10)
		if now.GetHeapBytes() < before.GetHeapBytes()+most/20 || grown > most {
			t.Errorf("the heap has %d bytes, %d before; at most %d more are allowed", now.GetHeapBytes(), before.GetHeapBytes(), most)
		}
	}
}

// TestHostile runs guests that would go on for ever beside ten neighbours. While
// they do the neighbours are served, each ends when it is told to, and then the
// node is as it was (I9).
func TestHostile(t *testing.T) {
	a := newArena(t, harness.Options{})
	cores := uint32(runtime.NumCPU())
	for _, attack := range []struct {
		name, guest string
		count       uint32
		change      func(*api.StartInstanceRequest)
		during      func(t *testing.T, before, now *api.NodeUsage)
	}{
		{name: "SpinOnEveryCore", guest: "spin", count: cores},
		{name: "SpinHundredfold", guest: "spin", count: 100},
		{name: "SpinInStartSection", guest: "spin_start_section", count: cores},
		{name: "SpinInInitialize", guest: "spin_initialize", count: cores},
		{name: "RecursionAgainAndAgain", guest: "recurse", count: cores, change: restartAtOnce},
		{name: "DeepFramesAgainAndAgain", guest: "recurse_locals", count: cores, change: restartAtOnce},
		{name: "CallsThroughTables", guest: "calls_table", count: cores},
		{name: "GrowMemory", guest: "grow", count: cores, during: func(t *testing.T, before, now *api.NodeUsage) {
			if most := uint64(cores) * 64 << 20; now.GetGuestMemoryBytes() > before.GetGuestMemoryBytes()+most {
				t.Errorf("guests have %d bytes, %d before, and may have %d more", now.GetGuestMemoryBytes(), before.GetGuestMemoryBytes(), most)
			}
		}},
		{name: "GrowTable", guest: "table_grow", count: cores, during: func(t *testing.T, before, now *api.NodeUsage) {
			// A table of the largest size has 8 MiB, and is copied when it grows.
			if most := uint64(cores)*40<<20 + before.GetHeapBytes(); now.GetHeapBytes() > most {
				t.Errorf("the heap has %d bytes, more than %d", now.GetHeapBytes(), most)
			}
		}},
		{name: "GrowTableWithLittleMemory", guest: "table_grow", count: 200, change: leastMemory, during: func(t *testing.T, before, now *api.NodeUsage) {
			if most := 200*160<<10 + before.GetHeapBytes(); now.GetHeapBytes() > most {
				t.Errorf("the heap has %d bytes, more than %d", now.GetHeapBytes(), most)
			}
		}},
		{name: "AsleepInDeepCalls", guest: "deep_asleep", count: 20, during: stackIsWithin(20 * 20 << 20)},
		{name: "AsleepInDeepCallsWithLittleMemory", guest: "deep_asleep", count: 200, change: leastMemory, during: stackIsWithin(200 * 128 << 10)},
		{name: "LogFlood", guest: "flood", count: cores},
		{name: "LogFloodInPieces", guest: "flood_pieces", count: cores},
		{name: "SleepForEver", guest: "sleep", count: 1000, change: leastMemory, during: func(t *testing.T, before, now *api.NodeUsage) {
			if now.GetThreads() > before.GetThreads()+16 {
				t.Errorf("%d threads with 1,000 sleepers, %d before", now.GetThreads(), before.GetThreads())
			}
			if now.GetRunnable() > neighbourCount {
				t.Errorf("%d guests want a core, and all but the neighbours sleep", now.GetRunnable())
			}
		}},
		{name: "HostCalls", guest: "host_calls", count: cores},
		{name: "MuchRandomness", guest: "random_much", count: cores},
		{name: "FillMemory", guest: "fill", count: cores},
		{name: "CopyMemory", guest: "copy", count: cores},
		{name: "MissCaches", guest: "chase", count: cores},
		{name: "CrashLoop", guest: "crash", count: cores, change: restartAtOnce},
		{name: "CapabilityCalls", guest: probeCommand, count: 20, change: func(r *api.StartInstanceRequest) {
			r.Args, r.Capabilities = []string{"kv", "kv", "k"}, []*api.CapabilityGrant{grant("kv", "kv", "kv:write")}
		}},
		{name: "DeniedCalls", guest: probeCommand, count: 20, change: func(r *api.StartInstanceRequest) { r.Args = []string{"kv", "kv", "k"} },
			during: func(t *testing.T, before, now *api.NodeUsage) {
				if now.GetCapabilityDenials() < before.GetCapabilityDenials()+1000 {
					t.Errorf("%d calls were denied", now.GetCapabilityDenials()-before.GetCapabilityDenials())
				}
			}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			a := a.in(t)
			before := a.usage()
			path := hostile(t, attack.guest)
			if attack.guest == probeCommand {
				path = harness.Wasm(t, probePkg, false)
			}
			digest := a.push(path)
			ids := a.start(digest, func(r *api.StartInstanceRequest) {
				r.InstanceId, r.Count = attack.name, attack.count
				if attack.change != nil {
					attack.change(r)
				}
			})
			a.awaitHeld(before.GetInstances() + attack.count)
			a.harvest()
			a.fine(a.observe())
			if attack.during != nil {
				attack.during(t, before, a.usage())
			}
			a.stop(ids)
			a.recovers(before)
		})
	}
}

// in is the arena for a test within that which has made it.
func (a *arena) in(t *testing.T) *arena {
	t.Helper()
	if a.t.Failed() {
		t.Skip("the neighbours have suffered before, and what follows would fail for that")
	}
	return &arena{t: t, cluster: a.cluster, client: a.client, node: a.node, before: a.before, calls: a.calls}
}

// awaitHeld waits until so many instances hold a place on the node: the attackers
// are at work.
func (a *arena) awaitHeld(n uint32) {
	a.t.Helper()
	harness.Eventually(a.t, "the attack", func(context.Context) error {
		if held := a.usage().GetInstances(); held < n {
			return fmt.Errorf("%d instances are on the node, of %d", held, n)
		}
		return nil
	})
}

// TestHostileEnds runs guests that the node ends by itself, and sees that it says
// why.
func TestHostileEnds(t *testing.T) {
	a := newArena(t, harness.Options{})
	for _, attack := range []struct {
		name, guest, kind, message string
	}{
		{"Recursion", "recurse", "stack", "call depth exceeded"},
		{"MutualRecursion", "recurse_mutual", "stack", "call depth exceeded"},
		{"RecursionThroughTable", "recurse_table", "stack", "call depth exceeded"},
		{"RecursionWithDeepFrames", "recurse_locals", "stack", "call depth exceeded"},
		{"TableOfTenMillion", "table_declared", "start", "10000000"},
		{"ImitatedInterruption", "imitate", "exit", "exit code -1"},
		{"Trap", "crash", "trap", "unreachable"},
	} {
		t.Run(attack.name, func(t *testing.T) {
			a := a.in(t)
			before := a.usage()
			a.harvest()
			id := a.run(hostile(t, attack.guest), attack.name)
			a.cluster.AwaitStatus(a.client, id, api.InstanceStatus_INSTANCE_STATUS_CRASHED)
			info := crashInfo(t, a.client, id)
			if cs := info.GetCrashes(); len(cs) != 1 || cs[0].GetKind() != attack.kind {
				t.Errorf("crashes %v, want one of kind %s", cs, attack.kind)
			} else {
				wantWords(t, cs[0].GetMessage(), attack.message)
			}
			a.fine(a.observe())
			a.recovers(before)
		})
	}
}

// TestCompileBombs starts modules that take a compiler minutes or gigabytes. They
// are refused, or compiled beside everything else, and the node neither waits
// nor grows.
func TestCompileBombs(t *testing.T) {
	a := newArena(t, harness.Options{NodeExtra: `
		idle_modules = 1
		compile { timeout = "15s" }`})
	small := file(t, "small.wasm", string(wasmModule([]byte{0, 0x0b})))
	for _, bomb := range []struct {
		name   string
		module []byte
		refuse bool
	}{
		{"NestedLoops", nested(0x03, 9_000), true},
		{"NestedBlocks", nested(0x02, 100_000), true},
		{"Locals", wasmModule(localsBody(2_000_000_000)), true},
		{"ManyLocals", wasmModule(repeat(localsBody(49_000), 300)...), false},
		{"BranchTable", wasmModule(branchTable(400_000)), true},
		{"BranchTables", wasmModule(repeat(branchTable(40_000), 40)...), true},
		{"ManyFunctions", wasmModule(repeat(longBody(200), 20_000)...), false},
		{"LongFunction", wasmModule(longBody(1_000_000)), false},
		{"MuchData", withData(40 << 20), false},
		{"ManySegments", withSegments(500_000), true},
	} {
		t.Run(bomb.name, func(t *testing.T) {
			a := a.in(t)
			before := a.usage()
			path := file(t, "bomb.wasm", string(bomb.module))
			a.harvest()
			id := a.run(path, bomb.name)
			in := a.awaitEnd(id)
			t.Logf("%d bytes: %s, %s", len(bomb.module), in.GetStatus(), in.GetReason())
			if bomb.refuse && in.GetStatus() != api.InstanceStatus_INSTANCE_STATUS_CRASHED {
				t.Errorf("ended as %s, and was to be refused", in.GetStatus())
			}
			if in.GetStatus() == api.InstanceStatus_INSTANCE_STATUS_CRASHED {
				if code := in.GetLastError(); code != "WASM_RUNTIME_ERROR" && code != "RESOURCE_EXHAUSTED" {
					t.Errorf("refused with %s: %s", code, in.GetReason())
				}
			}
			a.fine(a.observe())
			// One module stays in memory for the next who wants it. Here that is
			// another now.
			a.awaitEnd(a.run(small, bomb.name+"-after"))
			a.recovers(before)
		})
	}
	if rss := a.cluster.Nodes[0].Memory().Resident; rss > 600<<20 {
		t.Errorf("the node has %d MiB after all bombs", rss>>20)
	}
}

// wasmModule is a module whose functions have the type () -> () and these bodies; the
// last is exported as _start.
func wasmModule(bodies ...[]byte) []byte {
	b := []byte(wasmHeader)
	b = section(b, 1, []byte{1, 0x60, 0, 0})
	funcs := uleb(nil, len(bodies))
	for range bodies {
		funcs = append(funcs, 0)
	}
	b = section(b, 3, funcs)
	b = section(b, 7, uleb([]byte("\x01\x06_start\x00"), len(bodies)-1))
	return section(b, 10, code(bodies))
}

func code(bodies [][]byte) []byte {
	c := uleb(nil, len(bodies))
	for _, body := range bodies {
		c = append(uleb(c, len(body)), body...)
	}
	return c
}

func section(b []byte, id byte, content []byte) []byte {
	return append(uleb(append(b, id), len(content)), content...)
}

func uleb(b []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func repeat(body []byte, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = body
	}
	return out
}

// nested has n blocks of a kind within one another.
func nested(opcode byte, n int) []byte {
	body := []byte{0}
	for range n {
		body = append(body, opcode, 0x40)
	}
	for range n + 1 {
		body = append(body, 0x0b)
	}
	return wasmModule(body)
}

// localsBody declares n locals of i64.
func localsBody(n int) []byte {
	return append(uleb([]byte{1}, n), 0x7e, 0x0b)
}

// branchTable branches to one of n times the same place.
func branchTable(n int) []byte {
	body := []byte{0, 0x02, 0x40, 0x41, 0, 0x0e}
	body = uleb(body, n)
	for range n + 1 {
		body = append(body, 0)
	}
	return append(body, 0x0b, 0x0b)
}

// longBody adds n times 2.
func longBody(n int) []byte {
	body := []byte{1, 1, 0x7f}
	for range n {
		body = append(body, 0x20, 0, 0x41, 2, 0x6a, 0x21, 0)
	}
	return append(body, 0x0b)
}

// withData has a memory and one segment of n bytes.
func withData(n int) []byte {
	b := []byte(wasmHeader)
	b = section(b, 1, []byte{1, 0x60, 0, 0})
	b = section(b, 3, []byte{1, 0})
	b = section(b, 5, uleb([]byte{1, 0}, n>>16+1))
	b = section(b, 7, []byte("\x01\x06_start\x00\x00"))
	b = section(b, 10, code([][]byte{{0, 0x0b}}))
	data := uleb([]byte{1, 0, 0x41, 0, 0x0b}, n)
	return section(b, 11, append(data, make([]byte, n)...))
}

// withSegments has n segments of one byte.
func withSegments(n int) []byte {
	b := []byte(wasmHeader)
	b = section(b, 1, []byte{1, 0x60, 0, 0})
	b = section(b, 3, []byte{1, 0})
	b = section(b, 5, []byte{1, 0, 1})
	b = section(b, 7, []byte("\x01\x06_start\x00\x00"))
	b = section(b, 10, code([][]byte{{0, 0x0b}}))
	data := uleb(nil, n)
	for range n {
		data = append(data, 0, 0x41, 0, 0x0b, 1, 'x')
	}
	return section(b, 11, data)
}

func wantWords(t *testing.T, s string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(s, w) {
			t.Errorf("%q does not say %q", s, w)
		}
	}
}
