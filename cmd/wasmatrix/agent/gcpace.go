package agent

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A server under load collects often, since its heap is small: that took a
// seventh of its CPU. So it is given more room while it collects often, and only
// then: an idle server stays as small as ever.
const (
	gcLook = time.Second
	// gcBusy is how many collections in one look are often. Two such looks in a
	// row are load: starting a server takes no longer. Load ends when gcCalm looks
	// together had fewer than gcFew.
	gcBusy, gcCalm, gcFew = 3, 10, 5
	// gcRoom bounds how much a heap may grow beyond what it would by default, in
	// bytes; gcMost is the most that GOGC is set to.
	gcRoom, gcMost = 96 << 20, 400
	gcDefault      = 100
)

// gcPace decides how far the heap may grow between two collections.
type gcPace struct {
	percent int
	busy    int    // looks in a row with many collections
	looks   int    // since load began, or was last judged
	seen    uint64 // collections in them
}

// next takes the collections since the last look and the live bytes after the
// latest, and returns the GOGC to go on with.
func (p *gcPace) next(collections, live uint64) int {
	p.looks++
	p.seen += collections
	if collections >= gcBusy {
		p.busy++
	} else {
		p.busy = 0
	}
	loaded := p.percent > gcDefault
	switch {
	case !loaded && p.busy >= 2:
		loaded, p.looks, p.seen = true, 0, 0
	case loaded && p.looks >= gcCalm:
		loaded = p.seen >= gcFew
		p.looks, p.seen = 0, 0
	}
	p.percent = gcDefault
	if loaded {
		// Never the default itself, which says that there is no load.
		p.percent = int(max(min(gcDefault+gcRoom*100/max(live, 1), gcMost), gcDefault+1))
	}
	return p.percent
}

// paceCollections follows the load until ctx ends. An operator's GOGC or
// GOMEMLIMIT is left alone.
func paceCollections(ctx context.Context) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	samples := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/gc/heap/live:bytes"}}
	pace, set := gcPace{percent: gcDefault}, gcDefault
	defer debug.SetGCPercent(gcDefault)
	ticker := time.NewTicker(gcLook)
	defer ticker.Stop()
	var last uint64
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		metrics.Read(samples)
		cycles := samples[0].Value.Uint64()
		percent := pace.next(cycles-last, samples[1].Value.Uint64())
		last = cycles
		if percent == set {
			continue
		}
		lowered := percent < set
		debug.SetGCPercent(percent)
		set = percent
		if lowered && percent == gcDefault {
			debug.FreeOSMemory() // nothing else is going on
		}
	}
}
