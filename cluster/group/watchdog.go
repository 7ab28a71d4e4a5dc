package group

import (
	"errors"
	"math"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
)

// runWatchdog ends the group when raft stands still. Raft has no answer to
// that: its main loop can wait for ever on a peer that stopped in the middle of
// a snapshot, and a handover of leadership that went wrong leaves the leader
// refusing everything, in every later term too (raft#696).
func (g *Group) runWatchdog() {
	interval := max(g.conf.WatchdogAfter/15, time.Millisecond)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	probes := make(chan struct{})
	transferring, waiting := awakeStopwatch{interval: interval}, awakeStopwatch{interval: interval}
	asked, handing := false, false
	var seen uint64
	answers := make(chan error)
	g.probers.Go(func() { g.runProbes(probes, answers) })
	defer close(probes)
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-g.failure.ended:
			return
		case err := <-answers:
			asked = false
			if handing = errors.Is(err, raft.ErrLeadershipTransferInProgress); !handing {
				transferring.reset()
			}
			continue
		case <-tick.C:
		}
		if handing {
			if d := transferring.lap(time.Now()); d > g.conf.WatchdogAfter {
				g.failure.fail(wasmatrix.Errorf(wasmatrix.CodeInternal, "raft has been handing over leadership for %s and would not end", d.Round(time.Millisecond)))
			}
		}
		if !asked {
			select {
			case probes <- struct{}{}:
				asked, seen = true, g.progress.Load()
				waiting.reset()
				waiting.lap(time.Now())
			default:
			}
			continue
		}
		// A slow restore or a large snapshot keeps the loop busy for good reason.
		if now := g.progress.Load(); now != seen {
			seen = now
			waiting.reset()
		}
		if d := waiting.lap(time.Now()); d > g.conf.WatchdogAfter {
			g.failure.fail(wasmatrix.Errorf(wasmatrix.CodeInternal, "raft has not moved for %s", d.Round(time.Millisecond)))
		}
	}
}

// runProbes asks raft's main loop for two things that it refuses in every
// state, and that change nothing: a bootstrap without servers, and, of a leader,
// a change of members that is based on none of its configurations.
func (g *Group) runProbes(probes <-chan struct{}, answers chan<- error) {
	for range probes {
		err := g.raft.BootstrapCluster(raft.Configuration{}).Error()
		if g.raft.State() == raft.Leader {
			err = g.raft.RemoveServer("", math.MaxUint64, g.conf.Timing.Election).Error()
		}
		select {
		case answers <- err:
		case <-g.ctx.Done():
			return
		case <-g.failure.ended:
			return
		}
	}
}
