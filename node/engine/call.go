package engine

import (
	"context"
	"errors"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
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
	output []byte
}

// read copies input to the guest.
func (p *pending) read(mem api.Memory, offset, ptr, n uint32) int32 {
	if uint64(offset) >= uint64(len(p.Data)) {
		return 0
	}
	from := p.Data[offset:]
	from = from[:min(uint64(len(from)), uint64(n))]
	if mem == nil || !mem.Write(ptr, from) {
		return -int32(abi.ErrBounds)
	}
	return int32(len(from))
}

// write takes output from the guest.
func (p *pending) write(mem api.Memory, ptr, n uint32) int32 {
	if uint64(len(p.output))+uint64(n) > wasmatrix.MaxInvokeData {
		return -int32(abi.ErrTooLarge)
	}
	if mem == nil {
		return -int32(abi.ErrBounds)
	}
	b, ok := mem.Read(ptr, n)
	if !ok {
		return -int32(abi.ErrBounds)
	}
	p.output = append(p.output, b...)
	return 0
}

var errCallDeadline = errors.New("the deadline of an invocation passed")

// serve executes the calls of a reactor until it is to end.
func (s *shared) serve(x *execution, mod api.Module, calls <-chan *Call) Exit {
	for {
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
			exit, ended = x.e.recovered(r), true
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
	x.Context, x.call = ctx, &pending{Call: c}
	defer func() { x.Context, x.call = outer, nil }()
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
