package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// benchSets returns commands whose write IDs are where number writes them.
func benchSets(n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		c := setOf(wasmatrix.Time(i+1), fmt.Sprintf("users/%08d", (i*7919)%100_000), "a value of some one hundred bytes, as configuration, sessions and counters are, more or less, in fact", 0)
		c.Namespace.Name = fmt.Sprintf("own/instance-%03d/1", i%100)
		copy(c.ID[:], idMark)
		all[i] = must(c)
	}
	return all
}

// processorTime is what the process has used of processors, which tells more than
// a clock where others use them too.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const idMark = "\x00id\x00id\x00\x00"

func number(command []byte, n int) {
	at := bytes.Index(command, []byte(idMark)) + len(idMark)
	binary.BigEndian.PutUint64(command[at:], uint64(n))
}

// filled returns a store to which sets were applied, each as a write of its own.
func filled(b *testing.B, sets [][]byte) *Store {
	s := New(Options{})
	for i, c := range sets {
		number(c, i+1)
		s.Apply(uint64(i+1), c)
	}
	if s.Stats().Revision < uint64(len(sets))<<revisionBits {
		b.Fatal("sets were taken for repetitions")
	}
	return s
}

func BenchmarkApplySet(b *testing.B) {
	sets := benchSets(200_000)
	for _, fork := range []int{0, 100, 10_000} {
		name := "alone"
		if fork > 0 {
			name = fmt.Sprintf("fork every %d", fork)
		}
		b.Run(name, func(b *testing.B) {
			s, n := filled(b, sets), len(sets)
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				n++
				if fork > 0 && n%fork == 0 {
					s.Snapshot()
				}
				c := sets[n%len(sets)]
				number(c, n)
				if _, ok := s.Apply(uint64(n), c).(Written); !ok {
					b.Fatal("not written")
				}
			}
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sets/s")
			if s.Stats().Revision < uint64(n)<<revisionBits {
				b.Fatal("sets were taken for repetitions")
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s := filled(b, benchSets(200_000))
	ns := Namespace{"kv", "own/instance-000/1"}
	keys, _, err := s.List(&caller, ns, "", "", 10_000, 0)
	if err != nil || len(keys) == 0 {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, _, ok, _ := s.Get(&caller, ns, keys[i%len(keys)], 0); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkSnapshot(b *testing.B) {
	s := filled(b, benchSets(200_000))
	b.Run("grab", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Snapshot()
		}
	})
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			if err := s.Snapshot()(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(s.Stats().Entries)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	})
}
