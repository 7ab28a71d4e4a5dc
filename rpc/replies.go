package rpc

import (
	"sync"

	"connectrpc.com/connect"

	"github.com/wasmatrix/wasmatrix/gen/api"
)

// replies sends the messages of a stream in the order in which they come, many of
// them with one flush.
type replies struct {
	conn   connect.StreamingHandlerConn
	flush  func() // nil where Send flushes
	failed func() // is called when nothing can be sent any more

	mu     sync.Mutex
	room   sync.Cond            // of mu; when bytes has become less
	idle   sync.Cond            // of mu; when busy has become false
	queue  []*api.CarryResponse // guarded by mu
	spare  []*api.CarryResponse // guarded by mu; for the next queue
	bytes  int                  // guarded by mu; of what is queued and being sent, about
	busy   bool                 // guarded by mu; somebody sends
	broken bool                 // guarded by mu; what comes is dropped
}

// maxQueued bounds the answers that wait to be sent on a stream, in bytes: who
// makes more of them waits.
const maxQueued = 4 << 20

func newReplies(conn connect.StreamingHandlerConn) *replies {
	r := &replies{conn: conn}
	r.room.L, r.idle.L = &r.mu, &r.mu
	return r
}

// send queues a message, which is not the caller's any more. It blocks while too
// much waits.
func (r *replies) send(m *api.CarryResponse) {
	r.mu.Lock()
	for r.bytes >= maxQueued && !r.broken {
		r.room.Wait()
	}
	if r.broken {
		r.mu.Unlock()
		return
	}
	r.queue = append(r.queue, m)
	r.bytes += sizeOf(m)
	if r.busy {
		r.mu.Unlock()
		return
	}
	r.busy = true
	if r.drain(1) {
		// Others go on adding: the rest is not for the goroutine of this call.
		go r.drainRest()
	}
	r.mu.Unlock()
}

// drain sends what is queued, in at most some rounds, and returns whether more is.
// Call it with mu held and busy set.
func (r *replies) drain(rounds int) (more bool) {
	for ; rounds > 0 && len(r.queue) > 0; rounds-- {
		batch := r.queue
		r.queue, r.spare = r.spare[:0], nil
		r.mu.Unlock()
		ok, sent := true, 0
		for _, m := range batch {
			ok = ok && r.conn.Send(m) == nil
			sent += sizeOf(m)
		}
		if ok && r.flush != nil {
			r.flush()
		}
		clear(batch)
		if !ok {
			r.failed()
		}
		r.mu.Lock()
		r.spare = batch
		r.bytes -= sent
		if !ok {
			r.broken, r.queue, r.bytes = true, nil, 0
		}
		r.room.Broadcast()
	}
	if len(r.queue) > 0 {
		return true
	}
	r.busy = false
	r.idle.Broadcast()
	return false
}

func (r *replies) drainRest() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.drain(64) {
	}
}

// wait returns when everything was sent.
func (r *replies) wait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.busy {
		r.idle.Wait()
	}
}
