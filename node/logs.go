package node

import (
	"context"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// LogStream is an output of a guest.
type LogStream uint8

// The streams; zero stands for both.
const (
	LogStdout LogStream = iota + 1
	LogStderr
)

// LogChunk is a piece of output of one stream. Lines may go on from one chunk to
// the next.
type LogChunk struct {
	Stream LogStream
	Data   []byte    // is not changed by either side
	Time   time.Time // when its first byte was written
	// Dropped counts the bytes, of both streams, that were written before this
	// chunk and after the one before it, and are lost.
	Dropped uint64
}

// LogOptions choose what [Node.Logs] sends.
type LogOptions struct {
	Stream LogStream // zero means both
	// TailLines is how many of the last lines to begin with; 0 means all.
	TailLines int
	// Follow goes on with what is written until the instance is final.
	Follow bool
}

// Logs sends what is kept of the output of an instance, oldest first, over all
// its executions on this node. A slow send slows no guest: what it misses is
// counted as dropped. It returns nil at the end, the error of send, or that of
// ctx; INSTANCE_NOT_FOUND where nothing is kept.
func (n *Node) Logs(ctx context.Context, id wasmatrix.InstanceID, opts LogOptions, send func(LogChunk) error) error {
	ring := n.logsOf(id)
	if ring == nil {
		return wasmatrix.Errorf(wasmatrix.CodeInstanceNotFound, "node %s keeps no output of instance %s", n.cfg.ID, id)
	}
	from := uint64(0)
	if opts.TailLines > 0 {
		from = ring.tail(opts.Stream, opts.TailLines)
	}
	for {
		chunks, next, changed := ring.read(from, opts.Stream)
		for _, c := range chunks {
			if err := send(c); err != nil {
				return err
			}
		}
		from = next
		if !opts.Follow || changed == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (n *Node) logsOf(id wasmatrix.InstanceID) *logRing {
	n.mu.Lock()
	defer n.mu.Unlock()
	if in := n.instances[id]; in != nil {
		return in.logs
	}
	if g := n.ended.byID[id]; g != nil {
		return g.logs
	}
	return nil
}
