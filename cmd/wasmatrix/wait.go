package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// waitStarted waits until every instance is running or has ended, shows them,
// and fails if one crashed for good.
func (c *cli) waitStarted(ctx context.Context, cl *client.Client, res *api.StartInstanceResponse, asTable bool) error {
	ids := started(res)
	if !c.json() && !asTable {
		// The IDs are known, and whoever interrupts the wait needs them.
		if err := c.writeIDs(ids); err != nil {
			return err
		}
	}
	settled := &settling{c: c, total: len(ids)}
	list := &api.ListInstancesResponse{}
	err := each(ctx, ids, func(ctx context.Context, id string) (*api.Instance, error) {
		i, err := watchSettled(ctx, cl, id)
		settled.one(err)
		return i, err
	}, func(_ string, i *api.Instance) error {
		list.Instances = append(list.Instances, i)
		if i.GetStatus() == api.InstanceStatus_INSTANCE_STATUS_CRASHED {
			return wasmatrix.Errorf(wasmatrix.CodeCrashDetected, "instance %s crashed: %s", i.GetInstanceId(), i.GetReason()).
				With("instance", i.GetInstanceId()).With("last_error", i.GetLastError())
		}
		return nil
	})
	settled.done()
	if c.json() || asTable {
		err = errors.Join(c.showInstances(list, false), err)
	}
	return err
}

// watchSettled follows one instance until it is running or final. It opens the
// watch anew where it breaks, for as long as the client retries a call.
func watchSettled(ctx context.Context, cl *client.Client, id string) (*api.Instance, error) {
	pause := firstPause
	for {
		i, err := watchOnce(ctx, cl, id)
		if err == nil || ctx.Err() != nil || !wasmatrix.AsError(err).Retryable() {
			if ctx.Err() != nil {
				err = wasmatrix.Errorf(wasmatrix.CodeTimeout, "the wait for instance %s was interrupted; it goes on", id).
					With(wasmatrix.DetailOutcome, wasmatrix.OutcomeCommitted)
			}
			return i, err
		}
		// Is a server there at all? If not, this fails when the client gives up.
		if _, err := cl.Instances.QueryInstance(ctx, &api.QueryInstanceRequest{InstanceId: id}); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

func watchOnce(ctx context.Context, cl *client.Client, id string) (*api.Instance, error) {
	stream, err := cl.Instances.WatchInstances(ctx, &api.WatchInstancesRequest{InstanceId: id})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var seen *api.Instance
	for stream.Receive() {
		res := stream.Msg()
		switch i := res.GetInstance(); {
		case res.GetRemoved():
			return nil, wasmatrix.Errorf(wasmatrix.CodeInstanceNotFound, "instance %s was removed", id)
		case i != nil:
			seen = i
		case seen == nil && res.GetBookmark():
			// A watch begins with all that was acknowledged.
			return nil, wasmatrix.Errorf(wasmatrix.CodeInstanceNotFound, "instance %s does not exist", id)
		}
		if s := seen.GetStatus(); s == api.InstanceStatus_INSTANCE_STATUS_RUNNING || isFinal(s) {
			return seen, nil
		}
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	return nil, wasmatrix.Errorf(wasmatrix.CodeCommunication, "the server ended the watch of instance %s", id)
}

// settling counts instances that have settled, on the last line of a terminal.
type settling struct {
	c     *cli
	total int

	mu    sync.Mutex
	n     int
	drawn bool
}

func (s *settling) one(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.n++
	}
	if s.c.errTTY && s.total > 1 {
		fmt.Fprintf(s.c.err, "\r\x1b[K%d of %d settled", s.n, s.total)
		s.drawn = true
	}
}

func (s *settling) done() {
	if s.drawn {
		fmt.Fprint(s.c.err, "\r\x1b[K")
	}
}
