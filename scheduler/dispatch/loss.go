package dispatch

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// suspect probes the node, unless that is being done already, and marks it down
// if it is gone.
func (l *link) suspect(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up || l.condemned || l.probing {
		return
	}
	node := l.node
	l.probing = l.t.spawn(func(ctx context.Context) {
		gone := l.probe(ctx, node)
		l.mu.Lock()
		l.probing = false
		same := l.up && l.node.Boot == node.Boot
		l.mu.Unlock()
		if gone && same && ctx.Err() == nil {
			l.condemn(reason+" and it does not answer", func() bool { return true })
		}
	})
}

// probe reports whether the node's process is gone. Two pings in vain say so,
// or one that finds nobody listening. One that fails at once is sent again.
func (l *link) probe(ctx context.Context, node *wasmatrix.Node) bool {
	again := false
	for try := 0; try < 2; {
		sent := time.Now()
		boot, err := l.t.ping(ctx, node)
		took := time.Since(sent)
		switch {
		case ctx.Err() != nil:
			return false
		case err == nil:
			if boot != node.Boot {
				l.setReplaced(node)
			}
			return false
		case errors.Is(err, syscall.ECONNREFUSED):
			return true
		}
		l.t.log.Debug("ping failed", "node", l.id, "try", try+1, "error", err)
		// An error that comes at once may pass as soon. The first may be that of a
		// connection that broke with the process: a new one tells more.
		pause := l.t.cfg.PingTimeout/2 - min(took, l.t.cfg.PingTimeout/2)
		if !again && took < l.t.cfg.PingTimeout/10 {
			again, pause = true, probeAgain
		} else {
			try++
		}
		if try < 2 && !sleep(ctx, pause) {
			return false
		}
	}
	return true
}

// probeAgain is how long after a ping that failed at once the next is sent.
const probeAgain = 10 * time.Millisecond

// setReplaced stops sending to a process that is gone; the one that answers in
// its place will register, or the lease will run out.
func (l *link) setReplaced(node *wasmatrix.Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up && l.node.Boot == node.Boot {
		l.replaced = true
	}
}

// condemn grants the node no more leases and marks it down, if still says so
// once no registration is under way.
func (l *link) condemn(reason string, still func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up || l.condemned {
		return
	}
	node := l.node
	l.condemned = l.t.spawn(func(ctx context.Context) {
		if !l.acquire(ctx) {
			return
		}
		defer l.release()
		l.markDown(ctx, node, reason, still)
	})
}

func (l *link) markDown(ctx context.Context, node *wasmatrix.Node, reason string, still func() bool) {
	l.mu.Lock()
	same := l.up && l.node.Boot == node.Boot
	l.mu.Unlock()
	if !same || !still() {
		l.mu.Lock()
		l.condemned = false
		l.mu.Unlock()
		return
	}
	retry := backoff{first: 20 * time.Millisecond, limit: time.Second}
	for {
		lost, err := propose[int](ctx, l.t, wasmatrix.MarkNodeDown{At: now(), Node: node.ID, Boot: node.Boot, Reason: reason})
		if err == nil || wasmatrix.CodeOf(err) == wasmatrix.CodeNodeNotFound {
			l.t.log.Warn("node is down", "node", node.ID, "reason", reason, "instances", lost)
			l.drop(node.Boot) //nolint:contextcheck // the stream it may open ends with the term
			return
		}
		l.t.log.Warn("could not mark a node down", "node", node.ID, "error", err)
		if !retry.wait(ctx) {
			return
		}
	}
}
