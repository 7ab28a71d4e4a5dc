package node

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

// logged reads what is kept of an instance: the bytes, and how many are lost.
func logged(t *testing.T, n *Node, id wasmatrix.InstanceID) (text string, lost uint64) {
	t.Helper()
	var b strings.Builder
	err := n.Logs(t.Context(), id, LogOptions{}, func(c LogChunk) error {
		b.Write(c.Data)
		lost += c.Dropped
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), lost
}

// TestOutputBeyondTheRateIsDropped, the oldest of it, and counted. Who was silent
// has a second's worth, and not more.
func TestOutputBeyondTheRateIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const rate = 1000
		say := make(chan string)
		n := fakeNode(t, Config{Control: newControl(), LogRate: rate, LogRing: 1 << 20, guests: &guests{run: func(_ context.Context, cfg engine.RunConfig) engine.Exit {
			cfg.OnRunning()
			for s := range say {
				fmt.Fprint(cfg.Stdout, s)
			}
			return exitOK
		}}})
		execute(t, n, startOrder("i", 1, spec()))
		kept, lost := "", 0
		for i, step := range []struct {
			after time.Duration
			bytes int
			taken int
		}{
			{0, 5000, rate}, // a second's worth at once
			{0, 100, 0},
			{500 * time.Millisecond, 100, 100}, // half of it has come back
			{0, 1000, 400},
			{time.Hour, 3000, rate}, // nothing is saved beyond a second's
			{time.Second, 999, 999},
			{0, 2, 1},
		} {
			time.Sleep(step.after)
			s := strings.Repeat(string(rune('a'+i)), step.bytes-1) + "\n"
			say <- s
			kept += s[len(s)-step.taken:]
			lost += step.bytes - step.taken
		}
		close(say)
		time.Sleep(time.Second)
		// The losses behind what was kept last are not told: nothing comes after them.
		text, dropped := logged(t, n, "i")
		if text != kept || dropped != uint64(lost) {
			t.Errorf("%d bytes are kept and %d lost, want %d and %d", len(text), dropped, len(kept), lost)
		}
	})
}

// TestOneWhoFloodsTakesNobodysRate.
func TestOneWhoFloodsTakesNobodysRate(t *testing.T) {
	t.Parallel()
	limits := &logLimits{ring: 1 << 20, rate: 1000, total: 1 << 30}
	flood, calm := newLogRing(limits), newLogRing(limits)
	at := time.Unix(1, 0)
	flood.write(LogStdout, bytes.Repeat([]byte("x"), 100_000), at)
	calm.write(LogStderr, []byte("a word"), at)
	chunks, next, _ := calm.read(0, 0)
	if len(chunks) != 1 || string(chunks[0].Data) != "a word" || next != 6 {
		t.Errorf("%v, next %d", chunks, next)
	}
}

// TestOutputInAllIsBounded: beyond the bound each ring keeps 4 KiB of the newest
// from its next write on, and below it all that a ring may have.
func TestOutputInAllIsBounded(t *testing.T) {
	t.Parallel()
	limits := &logLimits{ring: 64 << 10, rate: 1 << 30, total: 100 << 10}
	rings := make([]*logRing, 20)
	line := []byte(strings.Repeat("x", 1023) + "\n")
	write := func(r *logRing, n int) {
		for i := range n {
			r.write(LogStdout, line, time.Unix(int64(i), 0))
		}
	}
	for i := range rings {
		rings[i] = newLogRing(limits)
		write(rings[i], 100)
	}
	if rings[0].size < 32<<10 || rings[0].size > 64<<10 {
		t.Errorf("the first keeps %d bytes, and nobody else had any", rings[0].size)
	}
	if last := rings[len(rings)-1]; last.size > leastRing || last.size < leastRing/2 {
		t.Errorf("the last keeps %d bytes, and the others have all", last.size)
	}
	for _, r := range rings {
		write(r, 1)
	}
	sum := 0
	for _, r := range rings {
		sum += r.size
	}
	if used := limits.used.Load(); used != int64(sum) {
		t.Errorf("%d bytes are counted, of %d", used, sum)
	}
	if most := 100<<10 + (leastRing+len(line)+2*pieceCost)*len(rings); sum > most {
		t.Errorf("all together keep %d bytes, more than %d", sum, most)
	}
}
