package engine

import (
	"sync"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
)

// held is what the host keeps for a guest from one call to the next. It is made
// when first needed, and dropped between invocations where nothing is open, so
// that idle instances have none. At most it is one result, of abi.MaxMessage, a topic
// and 12 bytes, and abi.MaxOpen handles with what their providers keep for each. All of
// it belongs to the goroutine of the run, but for what a field says.
type held struct {
	result  []byte // that result_read gives; not to be changed
	failure string // that error_read gives
	named   wasmatrix.CapabilityID

	open   map[int32]handle
	latest int32

	pushes chan pushed    // what pumps send; nil until there is one
	pumps  sync.WaitGroup // that have not ended
}

// handle is a request or a subscription that is open.
type handle interface {
	// close ends it and waits until it has ended.
	close()
}

// hold returns what is held, and makes it where there is nothing.
func (x *execution) hold() *held {
	if x.held == nil {
		x.held = &held{}
	}
	return x.held
}

// rest drops what is of no use after an invocation.
func (x *execution) rest() {
	switch h := x.held; {
	case h == nil:
	case len(h.open) == 0 && h.pushes == nil:
		x.held = nil
	default:
		h.result, h.failure = nil, ""
	}
}

// release ends what is still open.
func (h *held) release() {
	for _, o := range h.open {
		o.close()
	}
	h.pumps.Wait()
}

// give hands a result to the guest: what fits into buf at once, and the rest when
// the guest asks for it.
func (x *execution) give(buf, result []byte) int32 {
	copy(buf, result)
	x.hold().result = result
	return int32(len(result))
}

var errOpen = &refusal{abi.ErrLimit, "as many requests and subscriptions are open as an instance may have"}

// room reports whether one more may be opened.
func (x *execution) room() error {
	if len(x.hold().open) >= abi.MaxOpen {
		return errOpen
	}
	return nil
}

// keep gives what was opened a handle. There is room.
func (x *execution) keep(o handle) int32 {
	h := x.hold()
	if h.open == nil {
		h.open = make(map[int32]handle)
	}
	for {
		if h.latest++; h.latest <= 0 {
			h.latest = 1
		}
		if _, taken := h.open[h.latest]; !taken {
			h.open[h.latest] = o
			return h.latest
		}
	}
}

var errHandle = &refusal{abi.ErrHandle, "nothing of this kind is open under the handle"}

// opened finds what of a kind is open under the handle that is read.
func opened[T handle](x *execution, a *args) (t T, n int32) {
	n = int32(a.u32())
	if x.held != nil {
		if t, ok := x.held.open[n].(T); ok {
			return t, n
		}
	}
	a.fail(errHandle)
	return t, n
}

// shut ends what is open under a handle.
func (x *execution) shut(o handle, n int32) {
	delete(x.held.open, n)
	x.leave()
	o.close()
	x.back()
}

// back takes a core again after the guest has waited, or ends it.
func (x *execution) back() {
	if x.enter() != nil {
		unwind()
	}
}
