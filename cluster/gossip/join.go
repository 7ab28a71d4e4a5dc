package gossip

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// Join contacts the given addresses ("host" or "host:port") at the same time
// and returns how many of them answered and exchanged states. The error is nil
// if any did; else CONFLICT where one belongs to another cluster, and
// COMMUNICATION_FAILURE where none could be reached.
func (g *Gossip) Join(ctx context.Context, addrs []string) (int, error) {
	if len(addrs) == 0 {
		return 0, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "no address to join")
	}
	results := make(chan error, len(addrs))
	for _, addr := range addrs {
		if !g.spawn(func() { results <- g.join(ctx, addr) }) {
			return 0, errClosed()
		}
	}
	contacted := 0
	var failures []error
	for range addrs {
		select {
		case err := <-results:
			if err == nil {
				contacted++
			} else {
				failures = append(failures, err)
			}
		case <-ctx.Done():
			return contacted, wasmatrix.Errorf(wasmatrix.CodeTimeout, "join: %w", ctx.Err())
		}
	}
	if contacted > 0 {
		return contacted, nil
	}
	for _, err := range failures {
		if wasmatrix.CodeOf(err) == wasmatrix.CodeConflict {
			return 0, err
		}
	}
	return 0, wasmatrix.Errorf(wasmatrix.CodeCommunication, "join: %w", errors.Join(failures...))
}

// join contacts one address.
func (g *Gossip) join(ctx context.Context, addr string) error {
	targets, err := g.resolve(ctx, addr)
	if err != nil {
		return err
	}
	// memberlist flattens errors to text, so a refusal by our own merge delegate
	// is known again by its words.
	if _, err := g.ml.Join(targets); err != nil {
		if text := err.Error(); strings.Contains(text, string(wasmatrix.CodeConflict)+": this agent belongs to cluster ") {
			_, reason, _ := strings.Cut(text, string(wasmatrix.CodeConflict)+": ")
			return wasmatrix.Errorf(wasmatrix.CodeConflict, "%s", strings.TrimSpace(reason))
		}
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "%s: %w", addr, err)
	}
	return nil
}

func (g *Gossip) resolve(ctx context.Context, addr string) ([]string, error) {
	host, port := addr, strconv.Itoa(defaultPort)
	if h, p, err := net.SplitHostPort(addr); err == nil {
		host, port = h, p
	}
	if net.ParseIP(host) != nil {
		return []string{net.JoinHostPort(host, port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeCommunication, "%s cannot be resolved: %w", addr, err)
	}
	out := make([]string, len(ips))
	for i, ip := range ips {
		out[i] = net.JoinHostPort(ip.Unmap().String(), port)
	}
	return out, nil
}

// stayConnected contacts the configured and remembered addresses while this
// member is alone, and now and then one that is missing while it is not, since
// memberlist never again contacts those that it has found dead.
func (g *Gossip) stayConnected() {
	changed, stop := g.Subscribe()
	defer stop()
	remembered := g.loadPeers()
	wait := g.timing.RetryInterval
	for {
		targets := g.missing(remembered)
		alone := g.alone()
		if len(targets) > 0 {
			if !alone {
				targets = targets[:1]
			}
			_, err := g.Join(g.ctx, targets)
			switch {
			case g.ctx.Err() != nil:
				return
			case wasmatrix.CodeOf(err) == wasmatrix.CodeConflict:
				g.log.Error("cannot join", "error", err)
			case err != nil && alone:
				g.log.Info("no member answered yet", "tried", targets, "again_in", wait)
			}
		}
		remembered = g.savePeers(remembered)
		pause := g.timing.ReconnectInterval
		if g.alone() {
			pause = wait/2 + rand.N(wait)
			wait = min(2*wait, g.timing.RetryMax)
		} else {
			wait = g.timing.RetryInterval
		}
		if !g.pause(changed, pause, alone) {
			return
		}
	}
}

// pause waits for d, or until being alone is no longer what it was. It returns
// false after Close and Leave.
func (g *Gossip) pause(changed <-chan struct{}, d time.Duration, alone bool) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-changed:
			if g.Tags().Leaving {
				return false
			}
			if g.alone() != alone {
				return true
			}
		}
	}
}

// missing lists, in random order, the addresses to contact that no live member has.
func (g *Gossip) missing(remembered []string) []string {
	want := slices.Concat(g.cfg.RetryJoin, remembered)
	present := make(map[string]bool)
	for _, m := range g.Members() {
		switch m.Status {
		case StatusAlive:
			present[m.Addr] = true
		case StatusDead:
			want = append(want, m.Addr)
		case StatusLeft:
			present[m.Addr] = true
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	want = slices.DeleteFunc(want, func(a string) bool { return present[a] })
	rand.Shuffle(len(want), func(i, j int) { want[i], want[j] = want[j], want[i] })
	return want
}
