// Command guest runs one of several kinds of work, named by its argument, and
// prints what came of it. It is built for wasip1 and measured metered and not.
package main

import (
	"fmt"
	"os"
)

// work is each kind, with the result as one number.
var work = map[string]func() uint64{
	"nbody":       nbody,
	"matrix":      matrix,
	"text":        text,
	"json":        encodeJSON,
	"regexp":      match,
	"sha256":      hash,
	"crc32":       checksum,
	"sort":        sorting,
	"maps":        maps,
	"trees":       trees,
	"interpreter": interpret,
}

func main() {
	if len(os.Args) != 2 || work[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: guest KIND")
		os.Exit(2)
	}
	fmt.Printf("%016x\n", work[os.Args[1]]())
}

// random is a source of numbers that is the same everywhere.
type random uint64

func newRandom() *random {
	r := random(88172645463325252)
	return &r
}

func (r *random) next() uint64 {
	*r ^= *r << 13
	*r ^= *r >> 7
	*r ^= *r << 17
	return uint64(*r)
}
