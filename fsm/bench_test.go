package fsm

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

const benchNodes = 100

func benchMachine(tb testing.TB) *machine {
	nodes := make([]wasmatrix.NodeID, benchNodes)
	for n := range nodes {
		nodes[n] = benchNode(n)
	}
	m := newMachine(tb, Options{}).seed(nodes...)
	m.log = nil
	return m
}

func benchNode(n int) wasmatrix.NodeID {
	return wasmatrix.NodeID(fmt.Sprintf("node-%d", n%benchNodes))
}

// benchID spreads as random IDs do.
func benchID(n int) wasmatrix.InstanceID {
	return wasmatrix.InstanceID(fmt.Sprintf("i-%016x", uint64(n)*0x9e3779b97f4a7c15))
}

func benchStart(m *machine, n int) wasmatrix.StartInstances {
	return wasmatrix.StartInstances{At: m.now, Items: []wasmatrix.StartItem{{
		Request:    wasmatrix.Request{ID: wasmatrix.RequestID(fmt.Sprintf("request-%026d", n))},
		Spec:       benchSpec(),
		Placements: []wasmatrix.Placement{{Instance: benchID(n), Node: benchNode(n)}},
	}}}
}

func benchSpec() *wasmatrix.Spec {
	s := testSpec(wasmatrix.RestartOnFailure)
	s.Args = []string{"serve", "--verbose"}
	s.Env = map[string]string{"MODE": "production", "REGION": "eu"}
	s.Labels = map[string]string{"app": "shop"}
	return s
}

func benchReport(n int, seq uint64) []wasmatrix.Report {
	return []wasmatrix.Report{{Instance: benchID(n), Epoch: 1, Attempt: 1, Seq: seq, Status: wasmatrix.StatusRunning}}
}

func mustEncode(tb testing.TB, c wasmatrix.Command) []byte {
	b, err := Encode(c)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// fill starts instances, one by one request each, and reports them running.
func fill(tb testing.TB, m *machine, count int) {
	index := m.fsm.State().Index()
	for n := range count {
		index++
		m.fsm.Apply(index, mustEncode(tb, benchStart(m, n)))
		index++
		m.fsm.Apply(index, mustEncode(tb, wasmatrix.ApplyReports{At: m.now, Node: benchNode(n), Boot: "boot-1", Reports: benchReport(n, 1)}))
	}
}

// BenchmarkApplyStart creates one placed instance per command. The variant
// "forked" takes the state after each, as a reader that follows would.
func BenchmarkApplyStart(b *testing.B) {
	for _, forked := range []bool{false, true} {
		b.Run(map[bool]string{false: "alone", true: "forked"}[forked], func(b *testing.B) {
			m := benchMachine(b)
			fill(b, m, 50_000)
			commands := make([][]byte, b.N)
			for n := range commands {
				commands[n] = mustEncode(b, benchStart(m, 50_000+n))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n, c := range commands {
				m.fsm.Apply(uint64(200_000+n), c)
				if forked {
					m.fsm.State()
				}
			}
		})
	}
}

// BenchmarkApplyReport takes one report per command.
func BenchmarkApplyReport(b *testing.B) {
	for _, forked := range []bool{false, true} {
		b.Run(map[bool]string{false: "alone", true: "forked"}[forked], func(b *testing.B) {
			m := benchMachine(b)
			fill(b, m, 50_000)
			commands := make([][]byte, b.N)
			for n := range commands {
				i := n * 7919 % 50_000
				commands[n] = mustEncode(b, wasmatrix.ApplyReports{At: m.now, Node: benchNode(i), Boot: "boot-1", Reports: benchReport(i, uint64(n)+2)})
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n, c := range commands {
				if changed := m.fsm.Apply(uint64(200_000+n), c).([]bool); !changed[0] {
					b.Fatal("a report was not taken")
				}
				if forked {
					m.fsm.State()
				}
			}
		})
	}
}

func BenchmarkEncodeStart(b *testing.B) {
	m := benchMachine(b)
	c := benchStart(m, 1)
	b.ReportAllocs()
	for b.Loop() {
		mustEncode(b, c)
	}
}

func BenchmarkDecodeStart(b *testing.B) {
	c := mustEncode(b, benchStart(benchMachine(b), 1))
	b.ReportAllocs()
	b.SetBytes(int64(len(c)))
	for b.Loop() {
		if _, err := Decode(c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkState is the price of the first view after a command.
func BenchmarkState(b *testing.B) {
	m := benchMachine(b)
	fill(b, m, 50_000)
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		m.fsm.view.Store(nil)
		m.fsm.State()
	}
}

func BenchmarkSnapshot100k(b *testing.B) {
	m := benchMachine(b)
	fill(b, m, 100_000)
	s := m.fsm.State()
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		var n int64
		for b.Loop() {
			c := &countingWriter{}
			if err := s.WriteSnapshot(c); err != nil {
				b.Fatal(err)
			}
			n = c.n
		}
		b.ReportMetric(float64(n)/100_000, "B/instance")
	})
	b.Run("restore", func(b *testing.B) {
		var buf bytes.Buffer
		if err := s.WriteSnapshot(&buf); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if err := New(Options{}).Restore(bytes.NewReader(buf.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("hash", func(b *testing.B) {
		for b.Loop() {
			s.Hash()
		}
	})
}

type countingWriter struct{ n int64 }

func (c *countingWriter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// BenchmarkMemoryPerInstance measures what a running instance adds to the heap,
// each started by its own request: while the requests are remembered, after
// their window has passed, and after a restore.
func BenchmarkMemoryPerInstance(b *testing.B) {
	const count = 100_000
	for b.Loop() {
		m := benchMachine(b)
		before := heap()
		fill(b, m, count)
		b.ReportMetric(perInstance(heap(), before, count), "B/instance-in-window")

		index := m.fsm.State().Index()
		m.tick(time.Hour)
		for m.fsm.State().window.byAge.len() > 0 {
			index++
			m.fsm.Apply(index, mustEncode(b, wasmatrix.InitCluster{At: m.now}))
		}
		b.ReportMetric(perInstance(heap(), before, count), "B/instance")

		restored := throughSnapshot(b, m.fsm.State(), Options{})
		b.ReportMetric(perInstance(heap(), before, count), "B/instance-restored")
		runtime.KeepAlive(restored)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func perInstance(after, before uint64, count int) float64 {
	return (float64(after) - float64(before)) / float64(count)
}
