package rpc

import (
	"context"
	"sync"

	"github.com/wasmatrix/wasmatrix/rpc/link"
)

// linkSet has the links of a process, which its HTTP server does not know of any
// more. The zero value is empty.
type linkSet struct {
	mu     sync.Mutex
	closed bool                              // guarded by mu: none begins
	links  map[*link.Link]context.CancelFunc // guarded by mu; ends the calls of each
	work   sync.WaitGroup                    // Add with mu held
}

// begin counts a link that is to be, unless there are to be none.
func (s *linkSet) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.work.Add(1)
	return true
}

// end says that what was begun is over.
func (s *linkSet) end() { s.work.Done() }

func (s *linkSet) add(l *link.Link, cancel context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.links == nil {
		s.links = make(map[*link.Link]context.CancelFunc)
	}
	s.links[l] = cancel
}

func (s *linkSet) remove(l *link.Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, l)
}

// drain refuses links from now on, and waits for those that there are. When ctx ends
// it breaks them, and ends their calls.
func (s *linkSet) drain(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for l, cancel := range s.links {
			cancel()
			l.Close()
		}
	})
	defer stop()
	s.work.Wait()
}
