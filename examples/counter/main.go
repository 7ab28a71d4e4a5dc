// Counter adds to a counter in kv, N times, and exactly so often: whatever fails
// meanwhile, and however often it is ended and started again under the same name.
//
// The value of the key has a line for each writer, "NAME COUNT", and the count
// of all is their sum. What a writer does not know of a write whose outcome was
// lost, it finds in its own line. So it must be the only one of its name at a time.
//
//	counter -writer a -n 1000
//
// It ends with "a counted to 1000, all to 2500".
package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	wasmatrix "github.com/wasmatrix/wasmatrix/sdk/go"
	"github.com/wasmatrix/wasmatrix/sdk/go/kv"
)

func main() {
	capability := flag.String("capability", "kv", "ID of the capability to use")
	key := flag.String("key", "counter", "key of the counter")
	writer := flag.String("writer", "writer", "name of this writer, without spaces")
	n := flag.Uint64("n", 100, "how far to count")
	pause := flag.Duration("pause", 0, "how long to wait after each step")
	flag.Parse()
	c := counter{kv.Open(*capability), *key, *writer}
	for {
		own, all, err := c.step(*n)
		switch {
		case err == nil && own >= *n:
			fmt.Printf("%s counted to %d, all to %d\n", *writer, own, all)
			return
		case err == nil:
			time.Sleep(*pause)
		case errors.Is(err, wasmatrix.ErrConflict):
			// Another was first, or this writer was and did not get to know.
		case wasmatrix.Unknown(err), errors.Is(err, wasmatrix.ErrLimit):
			time.Sleep(20 * time.Millisecond)
		default:
			fmt.Fprintln(os.Stderr, "counter:", err)
			os.Exit(1)
		}
	}
}

type counter struct {
	store       kv.Store
	key, writer string
}

// step adds one unless this writer has counted to n, and returns how far it has
// counted, and all have together.
func (c *counter) step(n uint64) (own, all uint64, err error) {
	e, err := c.store.Get(c.key)
	if err != nil && !errors.Is(err, wasmatrix.ErrNotFound) {
		return 0, 0, err
	}
	counts, err := parse(string(e.Value))
	if err != nil {
		return 0, 0, err
	}
	if counts[c.writer] < n {
		counts[c.writer]++
		if _, err := c.store.CAS(c.key, e.Revision, []byte(format(counts))); err != nil {
			return 0, 0, err
		}
	}
	for _, count := range counts {
		all += count
	}
	return counts[c.writer], all, nil
}

func parse(s string) (map[string]uint64, error) {
	counts := map[string]uint64{}
	for line := range strings.Lines(s) {
		var name string
		var count uint64
		if _, err := fmt.Sscanf(line, "%s %d\n", &name, &count); err != nil {
			return nil, fmt.Errorf("the value has the line %q", line)
		}
		counts[name] = count
	}
	return counts, nil
}

func format(counts map[string]uint64) string {
	var s strings.Builder
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&s, "%s %d\n", name, counts[name])
	}
	return s.String()
}
