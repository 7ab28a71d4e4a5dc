package kv

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// trial is a call that is being made, at one server after the other.
type trial struct {
	client  *Client
	write   bool
	stale   bool
	tries   int
	hops    int           // from one server to the one it named, in a row
	wait    time.Duration // before the next
	reached bool          // some server has answered, if only that it does not lead
	refused int           // times in a row that the provider was unavailable
	last    *wasmatrix.Error
	unknown time.Time // when it first became unknown whether the write has its effect
}

// carry makes a call until a server has done it, or has refused it for good.
func carry[T any](ctx context.Context, c *Client, s *capability.Scope, write bool, do func(context.Context, capability.KV) (T, error)) (T, error) {
	var zero T
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.conf.Timeout)
		defer cancel()
	}
	t := trial{client: c, write: write, stale: s.Stale && !write}
	for {
		if ctx.Err() != nil {
			return zero, t.ended(ctx.Err())
		}
		// A lease may run out while a call waits for a leader.
		if err := checkAlive(s); err != nil {
			return zero, t.final(wasmatrix.AsError(err))
		}
		addr, known := c.server(t.stale)
		if addr == "" {
			t.pause(ctx)
			continue
		}
		began := time.Now()
		one, cancel := context.WithTimeout(ctx, t.limit())
		answer, err := do(one, c.conf.Dialer.Dial(addr))
		cancel()
		if err == nil {
			c.answered(addr, t.stale, known, time.Since(began))
			return answer, nil
		}
		if err := t.failed(ctx, addr, began, wasmatrix.AsError(err)); err != nil {
			return zero, err
		}
	}
}

// limit is how long the next server has.
func (t *trial) limit() time.Duration {
	if t.stale {
		return min(t.client.conf.Attempt, staleAttempt<<min(t.tries, 8))
	}
	return t.client.conf.Attempt
}

// failed decides what becomes of a call that a server did not do. It returns nil,
// in time, where it is to be made again.
func (t *trial) failed(ctx context.Context, addr string, began time.Time, err *wasmatrix.Error) error {
	t.tries++
	t.last = err
	outcome := err.Details[wasmatrix.DetailOutcome]
	if err.Code != wasmatrix.CodeProviderUnavailable {
		t.refused = 0
	}
	switch err.Code {
	case wasmatrix.CodeNotLeader:
		t.reached = true
		t.client.forget(addr)
		// Two servers may name each other for a moment.
		if leader := err.Details[wasmatrix.DetailLeader]; leader != "" && leader != addr && t.hops < 3 && !t.client.suspected(leader) {
			t.hops++
			t.client.leader.Store(&leader)
			return nil
		}
	case wasmatrix.CodeNoLeader:
		t.reached = true
		t.client.forget(addr)
	case wasmatrix.CodeCommunication, wasmatrix.CodeStorage, wasmatrix.CodeTimeout, wasmatrix.CodeProviderUnavailable:
		if outcome != wasmatrix.OutcomeNone {
			t.doubt(began)
		}
		if err.Code == wasmatrix.CodeProviderUnavailable {
			// Servers say so of a provider that was stopped, which may last.
			if t.refused++; t.refused > 2*len(t.client.conf.Servers()) {
				return t.final(err)
			}
		}
		// At the end of the call's own time it is not the server that failed.
		if ctx.Err() == nil {
			t.client.failed(addr, time.Since(began))
		}
	case wasmatrix.CodeResourceExhausted:
		// Too much to do at the moment, which is an answer only for a call that
		// certainly had no effect.
		if outcome != wasmatrix.OutcomeNone || t.unknown.IsZero() {
			return t.final(err)
		}
	default:
		return t.final(err)
	}
	if t.write && !t.unknown.IsZero() && time.Since(t.unknown) > maxUnknown {
		return t.ended(context.DeadlineExceeded)
	}
	t.hops = 0
	t.pause(ctx)
	return nil
}

// doubt notes that the write may have its effect from an attempt that was never
// answered.
func (t *trial) doubt(began time.Time) {
	if t.write && t.unknown.IsZero() {
		t.unknown = began
	}
}

// pause waits before the next server is asked, for longer each time.
func (t *trial) pause(ctx context.Context) {
	t.wait = min(max(2*t.wait, firstBackoff), maxBackoff)
	timer := time.NewTimer(t.wait/2 + rand.N(t.wait))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// final returns an error that is an answer. That of the store speaks for all
// attempts, since it remembers them; any other for the last one alone.
func (t *trial) final(err *wasmatrix.Error) error {
	fromStore := err.Code == wasmatrix.CodeConflict || err.Code == wasmatrix.CodeResourceExhausted && err.Details[wasmatrix.DetailOutcome] == ""
	if !t.unknown.IsZero() && !fromStore {
		return err.With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
	}
	return err
}

// ended returns the error of a call whose time is up.
func (t *trial) ended(cause error) error {
	outcome := wasmatrix.OutcomeNone
	if !t.unknown.IsZero() {
		outcome = wasmatrix.OutcomeUnknown
	}
	code, what := wasmatrix.CodeTimeout, "the kv store did not answer in time"
	if !t.reached && t.tries > 0 && t.last.Code != wasmatrix.CodeTimeout {
		code, what = wasmatrix.CodeProviderUnavailable, "no kv server could be reached"
	}
	if t.tries == 0 && len(t.client.conf.Servers()) == 0 {
		code, what = wasmatrix.CodeProviderUnavailable, "no kv server is known"
	}
	var err *wasmatrix.Error
	if t.last != nil {
		err = wasmatrix.Errorf(code, "%s: %w; last: %s", what, cause, t.last.Error())
	} else {
		err = wasmatrix.Errorf(code, "%s: %w", what, cause)
	}
	return err.With(wasmatrix.DetailOutcome, outcome)
}
