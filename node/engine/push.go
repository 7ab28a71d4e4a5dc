package engine

import (
	"context"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
)

// takesMessages reports whether messages can be pushed to a module.
func takesMessages(x *execution, mod api.Module) bool {
	if x.s.kind != wasmatrix.ModuleReactor {
		return false
	}
	f := mod.ExportedFunction(abi.OnMessage)
	if f == nil {
		return false
	}
	def := f.Definition()
	results := def.ResultTypes()
	return len(def.ParamTypes()) == 0 && len(results) == 1 && results[0] == i32
}

// pump takes the messages of a subscription and offers them to the goroutine of
// the run, one at a time: the others wait where the provider bounds them. It ends
// with its subscription, or with its context.
type pump struct {
	handle int32
	cancel context.CancelFunc
	ended  chan struct{}
	lost   uint64 // messages for which there was no core; of the goroutine of the run
}

// pushed is a message on its way.
type pushed struct {
	from *pump
	capability.Message
}

// begin has p push the messages of s, whose context is ctx.
func (h *held) begin(ctx context.Context, p *pump, s *subscription) {
	if h.pushes == nil {
		h.pushes = make(chan pushed)
	}
	to := h.pushes
	h.pumps.Go(func() {
		defer close(p.ended)
		defer s.close()
		for {
			m, err := s.Receive(ctx)
			if err != nil {
				return
			}
			if len(m.Data) > abi.MaxMessage {
				s.lost += m.Dropped + 1
				continue
			}
			m.Dropped += s.lost
			s.lost = 0
			select {
			case to <- pushed{p, m}:
			case <-ctx.Done():
				return
			}
		}
	})
}

// close returns when nothing is on its way any more.
func (p *pump) close() {
	p.cancel()
	<-p.ended
}

// pushing reports whether messages are pushed to the guest, or have been.
func (x *execution) pushing() bool { return x.held != nil && x.held.pushes != nil }

// serveMessages is serve for a guest that messages are pushed to. Whether a call or
// a message comes next is by chance where both wait.
func (s *shared) serveMessages(x *execution, mod api.Module, calls <-chan *Call) Exit {
	for {
		var exit Exit
		ended := false
		select {
		case <-x.Done():
			return interrupted(x.Context)
		case c := <-calls:
			if c.Begin() {
				exit, ended = s.invoke(x, mod, c)
			}
		case m := <-x.held.pushes:
			exit, ended = s.push(x, mod, m)
		}
		if ended {
			return exit
		}
	}
}

// push has the guest take a message.
func (s *shared) push(x *execution, mod api.Module, m pushed) (exit Exit, ended bool) {
	m.Dropped += m.from.lost
	m.from.lost = 0
	return s.invoke(x, mod, &Call{
		Invocation: wasmatrix.Invocation{Function: abi.OnMessage, Data: encodeMessage(m.from.handle, m.Message), Bytes: true},
		Deadline:   time.Now().Add(s.e.messageTime),
		// A message is delivered at most once, so that a status has nobody to heed it.
		Done: func(_ wasmatrix.InvocationResult, err error) {
			if err != nil {
				m.from.lost = m.Dropped + 1
			}
		},
	})
}
