package engine

import (
	"context"
	"errors"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/wasmatrix/wasmatrix"
)

// Call is an invocation on its way to a reactor.
type Call struct {
	wasmatrix.Invocation
	// Deadline ends the run if the function still executes then.
	Deadline time.Time
	// Begin is called from the goroutine of the run when the call is taken. When
	// it returns false the caller has given up, and nothing happens.
	Begin func() bool
	// Done is called exactly once after Begin returned true, from the goroutine
	// of the run.
	Done func(wasmatrix.InvocationResult, error)
}

// pending is the call under way.
type pending struct {
	*Call
	outer  context.Context //nolint:containedctx // of the run
	output []byte
}

var errCallDeadline = errors.New("the deadline of an invocation passed")

// serve executes the calls of a reactor until it is to end.
func (s *shared) serve(x *execution, mod api.Module, calls <-chan *Call) Exit {
	for !x.pushing() {
		select {
		case <-x.Done():
			return interrupted(x.Context)
		case c := <-calls:
			if !c.Begin() {
				continue
			}
			if exit, ended := s.invoke(x, mod, c); ended {
				return exit
			}
		}
	}
	return s.serveMessages(x, mod, calls)
}

// invoke executes one call. It reports whether that has ended the run, and how.
func (s *shared) invoke(x *execution, mod api.Module, c *Call) (exit Exit, ended bool) {
	answered := false
	answer := func(r wasmatrix.InvocationResult, err error) {
		answered = true
		c.Done(r, err)
	}
	defer func() {
		if r := recover(); r != nil {
			exit, ended = x.s.e.recovered(r), true
		}
		if !answered {
			answer(wasmatrix.InvocationResult{}, exit.Err())
		}
	}()
	f := mod.ExportedFunction(c.Function)
	stack, err := prepare(f, &c.Invocation)
	if err != nil {
		answer(wasmatrix.InvocationResult{}, err)
		return Exit{}, false
	}

	outer := x.Context
	ctx, cancel := context.WithDeadlineCause(outer, c.Deadline, errCallDeadline)
	defer cancel()
	x.Context, x.call = ctx, &pending{Call: c, outer: outer}
	defer func() {
		x.Context, x.call = outer, nil
		x.rest()
	}()
	fuel, used := x.spent, x.share.Used()
	err = x.enter()
	if err == nil {
		err = f.CallWithStack(x, stack)
	} else {
		x.leave()
		if outer.Err() == nil { // it did not begin
			answer(wasmatrix.InvocationResult{}, wasmatrix.Errorf(wasmatrix.CodeTimeout, "no core was free within the invocation's time"))
			return Exit{}, false
		}
		return interrupted(outer), true
	}
	x.settle(mod)
	if err != nil {
		return s.classify(x, err, untraced), true // on the guest's own time
	}
	x.leave()
	result := wasmatrix.InvocationResult{Fuel: x.spent - fuel, CPU: x.share.Used() - used}
	if c.Bytes {
		result.Data = x.call.output
		if len(f.Definition().ResultTypes()) == 1 {
			result.Status = api.DecodeI32(stack[0])
		}
	} else {
		result.Results = numbers(f.Definition().ResultTypes(), stack)
	}
	answer(result, nil)
	return Exit{}, false
}
