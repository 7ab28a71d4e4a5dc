package dispatch

import (
	"context"
	"sync"

	"github.com/wasmatrix/wasmatrix"
)

// overtaken is the epoch of an instance below a fence that is in force: the state
// was restored to a time before the fence was raised. The store refuses what the
// instance asks for until an epoch at the fence or above begins. One at the fence
// may have been another's, so that it has to be above.
type overtaken struct {
	wasmatrix.Fence
	inForce uint64
}

// outrun has instances begin in epochs above the fences in force, in the usual
// way: the new epochs are fenced, too. Fences of instances of which that failed
// are left, with an error.
func (t *tenure) outrun(ctx context.Context, behind []overtaken) (left []wasmatrix.Fence, err error) {
	var (
		wg    sync.WaitGroup
		slots = make(chan struct{}, maxOutrunning)
		mu    sync.Mutex // guards left and err
	)
	for _, o := range behind {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if failure := t.restartAbove(ctx, o); failure != nil {
				mu.Lock()
				defer mu.Unlock()
				left, err = append(left, o.Fence), failure
			}
		})
	}
	wg.Wait()
	return left, err
}

// restartAbove does nothing where the instance is not in that epoch any more.
func (t *tenure) restartAbove(ctx context.Context, o overtaken) error {
	i, ok := t.cfg.State.Snapshot().Instance(o.Instance)
	if !ok || fenceOf(i) != o.Fence || !i.Status.OnNode() || i.StopRequested {
		return nil
	}
	least := min(o.inForce, wasmatrix.MaxMinEpoch) + 1
	_, err := propose[*wasmatrix.Instance](ctx, t, wasmatrix.RestartInstance{At: now(), Instance: o.Instance, MinEpoch: least})
	switch wasmatrix.CodeOf(err) {
	case "":
		t.log.Warn("kv refuses the epoch of an instance, which begins anew above it", "instance", o.Instance, "epoch", o.Epoch, "fence", o.inForce)
		return nil
	case wasmatrix.CodeInvalidRequest:
		t.log.Error("kv refuses all epochs of an instance", "instance", o.Instance, "epoch", o.Epoch, "fence", o.inForce, "error", err)
		return nil
	default: // also where it has ended, or is to stop, which the next try sees
		return err
	}
}
