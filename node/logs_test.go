package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

// TestLogRingKeepsTheNewest compares a ring with all that was ever written.
// wide are limits of which only that of the ring counts.
func wide(ring int) *logLimits { return &logLimits{ring: ring, rate: 1 << 40, total: 1 << 40} }

func TestLogRingKeepsTheNewest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(256, 8192).Draw(t, "limit")
		r := newLogRing(wide(limit))
		r.open()
		type byteOf struct {
			stream LogStream
			b      byte
		}
		var all []byteOf
		var position uint64 // of a reader who reads now and then
		at := time.Unix(0, 0)
		check := func(from uint64) uint64 {
			chunks, next, _ := r.read(from, 0)
			for _, c := range chunks {
				from += c.Dropped
				for _, b := range c.Data {
					if all[from] != (byteOf{c.Stream, b}) {
						t.Fatalf("at %d: %q of stream %d, want %+v", from, b, c.Stream, all[from])
					}
					from++
				}
			}
			if from != next || next != uint64(len(all)) {
				t.Fatalf("read to %d, next %d, written %d", from, next, len(all))
			}
			return next
		}
		for range rapid.IntRange(1, 60).Draw(t, "writes") {
			stream := LogStream(rapid.IntRange(1, 2).Draw(t, "stream"))
			p := rapid.SliceOfN(rapid.ByteRange('a', 'c'), 0, rapid.SampledFrom([]int{1, 20, 300, 10000}).Draw(t, "most")).Draw(t, "p")
			at = at.Add(time.Duration(rapid.IntRange(0, 150).Draw(t, "ms")) * time.Millisecond)
			r.write(stream, p, at)
			for i := range p {
				all = append(all, byteOf{stream, p[i]})
				p[i] = 'X' // a writer's bytes are its own
			}
			if r.size > limit && len(r.pieces) > 1 {
				t.Fatalf("%d bytes kept, at most %d", r.size, limit)
			}
			if rapid.Bool().Draw(t, "read") {
				position = check(position)
			}
		}
		check(position)
		check(0)
		var errs, want []byte
		for _, b := range all {
			if b.stream == LogStderr {
				want = append(want, b.b)
			}
		}
		chunks, _, _ := r.read(0, LogStderr)
		for _, c := range chunks {
			errs = append(errs, c.Data...)
		}
		if !bytes.HasSuffix(want, errs) {
			t.Fatalf("stderr: %q is not the end of %q", errs, want)
		}
	})
}

func TestLogRingTail(t *testing.T) {
	t.Parallel()
	r := newLogRing(wide(1 << 16))
	var all []string
	for i := range 500 {
		line := fmt.Sprintf("line %d\n", i)
		all = append(all, line)
		// Lines come in pieces, and between those of the other stream.
		r.write(LogStdout, []byte(line[:3]), time.Unix(int64(i), 0))
		r.write(LogStderr, []byte("noise\n"), time.Unix(int64(i), 0))
		r.write(LogStdout, []byte(line[3:]), time.Unix(int64(i), 0))
	}
	text := func(from uint64, stream LogStream) string {
		chunks, _, _ := r.read(from, stream)
		var b strings.Builder
		for _, c := range chunks {
			b.Write(c.Data)
		}
		return b.String()
	}
	kept := strings.Count(text(0, LogStdout), "\n")
	if kept < 100 {
		t.Fatalf("%d lines kept", kept)
	}
	for _, n := range []int{1, 2, 7, 100} {
		if got, want := text(r.tail(LogStdout, n), LogStdout), strings.Join(all[500-n:], ""); got != want {
			t.Errorf("tail %d: %q, want %q", n, got, want)
		}
	}
	if got := text(r.tail(LogStdout, 100000), LogStdout); got != text(0, LogStdout) {
		t.Errorf("tail of more than there is: %d bytes", len(got))
	}
	r.write(LogStdout, []byte("open"), time.Unix(1000, 0))
	if got := text(r.tail(LogStdout, 2), LogStdout); got != all[499]+"open" {
		t.Errorf("tail 2 with an open line: %q", got)
	}
	if got := text(r.tail(LogStderr, 1), LogStderr); got != "noise\n" {
		t.Errorf("tail of stderr: %q", got)
	}
	if from := newLogRing(wide(100)).tail(0, 3); from != 0 {
		t.Errorf("tail of nothing: %d", from)
	}
}

func collect(into *strings.Builder, mu *sync.Mutex) func(LogChunk) error {
	return func(c LogChunk) error {
		mu.Lock()
		defer mu.Unlock()
		if c.Dropped > 0 {
			fmt.Fprintf(into, "[%d lost]", c.Dropped)
		}
		fmt.Fprintf(into, "%d:%s", c.Stream, c.Data)
		return nil
	}
}

func TestLogs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		say := make(chan string)
		n := fakeNode(t, Config{Control: c, KeepLogs: 2, guests: &guests{run: func(_ context.Context, cfg engine.RunConfig) engine.Exit {
			cfg.OnRunning()
			fmt.Fprintf(cfg.Stderr, "begin\n")
			for s := range say {
				if s == "crash" {
					return exitTrap
				}
				fmt.Fprintf(cfg.Stdout, "%s\n", s)
			}
			return exitOK
		}}})
		execute(t, n, startOrder("i", 1, spec(restart(wasmatrix.RestartOnFailure, 0, wasmatrix.Backoff{Multiplier: 1}))))
		var mu sync.Mutex
		var followed, once, tail strings.Builder
		ended := make(chan error, 1)
		go func() { ended <- n.Logs(t.Context(), "i", LogOptions{Follow: true}, collect(&followed, &mu)) }()
		hasty, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error, 1)
		go func() { gaveUp <- n.Logs(hasty, "i", LogOptions{Follow: true}, func(LogChunk) error { return nil }) }()
		say <- "one"
		say <- "crash"
		say <- "two"
		synctest.Wait()
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("follower who gave up: %v", err)
		}
		if err := n.Logs(t.Context(), "i", LogOptions{Stream: LogStdout}, collect(&once, &mu)); err != nil || once.String() != "1:one\n1:two\n" {
			t.Errorf("logs of a running instance: %q, %v", once.String(), err)
		}
		if err := n.Logs(t.Context(), "i", LogOptions{}, func(LogChunk) error { return errBroken }); !errors.Is(err, errBroken) {
			t.Errorf("send failed: %v", err)
		}
		close(say)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		const want = "2:begin\n1:one\n2:begin\n1:two\n"
		if followed.String() != want {
			t.Errorf("followed %q, want %q", followed.String(), want)
		}
		synctest.Wait()
		if len(held(n)) != 0 {
			t.Error("still held")
		}
		// After the end, also following, and after others have ended.
		if err := n.Logs(t.Context(), "i", LogOptions{TailLines: 2, Follow: true}, collect(&tail, &mu)); err != nil || tail.String() != "2:begin\n1:two\n" {
			t.Errorf("logs of an ended instance: %q, %v", tail.String(), err)
		}
		execute(t, n, startOrder("j", 1, spec()), startOrder("k", 1, spec()))
		synctest.Wait()
		for _, id := range []wasmatrix.InstanceID{"i", "never"} {
			if err := n.Logs(t.Context(), id, LogOptions{}, nil); wasmatrix.CodeOf(err) != wasmatrix.CodeInstanceNotFound {
				t.Errorf("logs of %s: %v", id, err)
			}
		}
		if err := n.Logs(t.Context(), "k", LogOptions{}, func(LogChunk) error { return nil }); err != nil {
			t.Error(err)
		}
	})
}

func TestASlowFollowerMissesAndIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newControl()
		lines := make(chan int)
		n := fakeNode(t, Config{Control: c, LogRing: 1024, guests: &guests{run: func(_ context.Context, cfg engine.RunConfig) engine.Exit {
			cfg.OnRunning()
			for i := range lines {
				fmt.Fprintf(cfg.Stdout, "line %06d\n", i)
			}
			return exitOK
		}}})
		execute(t, n, startOrder("i", 1, spec()))
		var got bytes.Buffer
		var dropped uint64
		ended := make(chan error, 1)
		slow := make(chan struct{})
		go func() {
			ended <- n.Logs(t.Context(), "i", LogOptions{Follow: true}, func(c LogChunk) error {
				got.Write(c.Data)
				dropped += c.Dropped
				<-slow
				return nil
			})
		}()
		for i := range 10000 { // none of which waits for the reader
			lines <- i
		}
		close(lines)
		synctest.Wait()
		close(slow)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if dropped == 0 || uint64(got.Len())+dropped != 10000*12 || !bytes.HasSuffix(got.Bytes(), []byte("line 009999\n")) {
			t.Errorf("%d bytes read, %d dropped", got.Len(), dropped)
		}
	})
}
