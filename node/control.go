package node

import (
	"context"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

const (
	registerTimeout = 10 * time.Second
	// defaultTTL paces renewals where the leader names no time.
	defaultTTL = 3 * time.Second
	// minRenewTimeout keeps short leases from giving up on each request.
	minRenewTimeout = 200 * time.Millisecond
)

// Run registers the node, keeps its lease and sends its reports until ctx or
// the node ends. It returns nil then: that no server can be reached is no error,
// and ends no guest (R4.2).
func (n *Node) Run(ctx context.Context) error {
	n.mu.Lock()
	if n.life.Err() != nil {
		n.mu.Unlock()
		return wasmatrix.Errorf(wasmatrix.CodeInternal, "node %s is closed", n.cfg.ID)
	}
	n.running.Add(1)
	n.mu.Unlock()
	defer n.running.Done()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.life, cancel)() //nolint:contextcheck // the life of the node, beside that of the caller
	var reporter sync.WaitGroup
	reporter.Go(func() { n.sendReports(ctx) })
	reporter.Go(func() { n.sendDenials(ctx) })
	reporter.Go(func() { n.watchLease(ctx) })
	n.keepLease(ctx)
	reporter.Wait()
	return nil
}

// keepLease registers and renews until ctx ends.
func (n *Node) keepLease(ctx context.Context) {
	retry := backoff{first: 50 * time.Millisecond, limit: 500 * time.Millisecond}
	enrolled, lost := false, false
	ttl := defaultTTL
	for ctx.Err() == nil {
		sent := time.Now()
		var lease wasmatrix.Lease
		var err error
		if enrolled {
			lease, err = n.renew(ctx, max(ttl/3, minRenewTimeout))
		} else {
			lease, err = n.enroll(ctx)
		}
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			if !lost {
				n.log.Warn("no leader reached; the guests go on", "error", err)
				lost = true
			}
			if unknownNode(err) {
				enrolled = n.setEnrolled(false)
			}
			retry.wait(ctx, n.register)
			continue
		}
		if lost {
			n.log.Info("leader reached again", "term", lease.Term)
			lost = false
		}
		n.granted(sent, lease)
		if lease.TTL > 0 {
			ttl = time.Duration(lease.TTL)
		}
		again := enrolled // a renewal may be followed by a registration at once
		enrolled = n.setEnrolled(!lease.Resync)
		if lease.Resync {
			if !again {
				retry.wait(ctx, nil)
			}
			continue
		}
		retry.reset()
		poke(n.contact)
		if !n.rest(ctx, time.Until(sent.Add(ttl/3))) {
			enrolled = n.setEnrolled(false)
		}
	}
}

// rest waits for d, and reports false when the leader has said meanwhile that
// it does not know this node.
func (n *Node) rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-n.register:
		return false
	case <-ctx.Done():
	}
	return true
}

func (n *Node) enroll(ctx context.Context) (wasmatrix.Lease, error) {
	select {
	case <-n.register: // this is what was asked for
	default:
	}
	n.mu.Lock()
	held := n.holding()
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	return n.cfg.Control.Register(ctx, wasmatrix.Registration{
		ID: n.cfg.ID, Boot: n.cfg.Boot, Addr: n.cfg.Addr, Version: n.cfg.Version,
		Labels: n.cfg.Labels, Capacity: n.cfg.Capacity, Holding: held,
	})
}

func (n *Node) renew(ctx context.Context, timeout time.Duration) (wasmatrix.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return n.cfg.Control.Renew(ctx, n.cfg.ID, n.cfg.Boot)
}

// granted notes a lease that was asked for at a time. That of a leader which has
// been succeeded is worth nothing: the new one does not wait for its end.
func (n *Node) granted(sent time.Time, l wasmatrix.Lease) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.Term < n.term {
		return
	}
	n.term = l.Term
	n.lease.extend(sent, time.Duration(l.TTL))
	poke(n.leased)
}

// setEnrolled says whether reports may be sent. It returns its argument.
func (n *Node) setEnrolled(yes bool) bool {
	n.mu.Lock()
	n.enrolled = yes
	n.mu.Unlock()
	poke(n.wake)
	return yes
}

// unknownNode reports whether err says that the leader has no such node, or
// another process of its name.
func unknownNode(err error) bool {
	code := wasmatrix.CodeOf(err)
	return code == wasmatrix.CodeNodeNotFound || code == wasmatrix.CodeConflict
}

// lease is the time until which the leader counts the node as alive.
type lease struct {
	mu    sync.Mutex
	until time.Time // with its monotonic reading; guarded by mu
}

// extend moves the end of the lease on; it never moves it back, since what the
// leader granted it keeps to.
func (l *lease) extend(sent time.Time, ttl time.Duration) {
	if ttl <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := sent.Add(ttl); until.After(l.until) {
		l.until = until
	}
}

func (l *lease) valid(now time.Time) bool { return now.Before(l.end()) }

// end is when the lease runs out, or has.
func (l *lease) end() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}
