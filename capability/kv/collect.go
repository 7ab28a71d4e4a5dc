package kv

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/kv/store"
)

const (
	// expiryPoll bounds how late an entry is found to have run out, whose end came
	// to be the next while Run was waiting.
	expiryPoll = 50 * time.Millisecond
	// sweepEntries bounds the work of one command that clears up.
	sweepEntries = 1024
	sweepPage    = 512 // namespaces or fences looked at, and dropped, at a time
)

// Run lets time pass in the store: it removes entries whose time has run out,
// and what belongs to instances that are gone. It runs on the server that leads
// the group, from when it leads until ctx ends. Errors of the group are logged,
// and tried again.
func (s *Server) Run(ctx context.Context) {
	sweep := s.Now().Add(s.Collect)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		wait := expiryPoll
		for {
			more, err := s.expire(ctx)
			if err != nil {
				wait = time.Second
				s.failed(ctx, "expire", err)
			}
			if !more || err != nil {
				break
			}
		}
		if s.State != nil && !s.Now().Before(sweep) {
			if err := s.collect(ctx); err != nil {
				s.failed(ctx, "collect", err)
			}
			sweep = s.Now().Add(s.Collect)
		}
		if next, ok := s.Store.NextExpiry(); ok && wait == expiryPoll {
			wait = min(wait, max(next.Std().Sub(s.Now()), time.Millisecond))
		}
		timer.Reset(wait)
	}
}

func (s *Server) failed(ctx context.Context, doing string, err error) {
	if ctx.Err() == nil {
		s.Logger.Warn("kv: clearing up failed, and is tried again", "doing", doing, "error", err)
	}
}

// expire removes entries whose time has run out by this server's clock, if there
// are any, and reports whether more are left.
func (s *Server) expire(ctx context.Context) (more bool, err error) {
	now := s.clock()
	if next, ok := s.Store.NextExpiry(); !ok || next > now {
		return false, nil
	}
	c := store.Expire{At: now, Limit: sweepEntries}
	command, err := c.Encode()
	if err != nil {
		return false, err
	}
	r, err := propose[store.Removed](ctx, s, nil, command)
	return r.More, err
}

// collect removes namespaces and fences of instances that are gone.
func (s *Server) collect(ctx context.Context) error {
	state := s.State()
	for after := (store.Namespace{}); ; {
		page := s.Store.Namespaces(after, sweepPage)
		var dead []store.Namespace
		for _, n := range page {
			if id, incarnation, ok := ownerOf(n.Name); ok && gone(state, id, incarnation) {
				dead = append(dead, n)
			}
		}
		if err := s.drop(ctx, dead, nil); err != nil {
			return err
		}
		if len(page) < sweepPage {
			break
		}
		after = page[len(page)-1]
	}
	for after := (store.Fence{}); ; {
		page := s.Store.Fences(after, sweepPage)
		var dead []store.Fence
		for _, f := range page {
			if gone(state, f.Instance, f.Incarnation) {
				dead = append(dead, f)
			}
		}
		if err := s.drop(ctx, nil, dead); err != nil {
			return err
		}
		if len(page) < sweepPage {
			return nil
		}
		after = page[len(page)-1]
	}
}

func (s *Server) drop(ctx context.Context, namespaces []store.Namespace, fences []store.Fence) error {
	for more := len(namespaces)+len(fences) > 0; more; {
		c := store.Drop{At: s.clock(), Namespaces: namespaces, Fences: fences, Limit: sweepEntries}
		command, err := c.Encode()
		if err != nil {
			return err
		}
		r, err := propose[store.Removed](ctx, s, nil, command)
		if err != nil {
			return err
		}
		more = r.More
	}
	return nil
}

// gone reports whether a record of an instance has been removed for good. A
// state that has not come beyond the log index that made it cannot tell: several
// commands share one, and it may have the first of them alone.
func gone(state wasmatrix.Snapshot, id wasmatrix.InstanceID, incarnation uint64) bool {
	if incarnation >= state.Index() {
		return false
	}
	i, ok := state.Instance(id)
	return !ok || i.CreateIndex != incarnation
}

// ownerOf reads what [capability.OwnNamespace] writes.
func ownerOf(name string) (id wasmatrix.InstanceID, incarnation uint64, ok bool) {
	rest, ok := strings.CutPrefix(name, capability.OwnPrefix)
	if !ok {
		return "", 0, false
	}
	owner, number, ok := strings.Cut(rest, "/")
	if !ok {
		return "", 0, false
	}
	incarnation, err := strconv.ParseUint(number, 10, 64)
	return wasmatrix.InstanceID(owner), incarnation, err == nil
}
