package agent

import "sync"

// pulse tells any number of waiting goroutines that something happened.
type pulse struct {
	mu   sync.Mutex
	next chan struct{} // guarded by mu; closed and renewed at each beat
}

func newPulse() *pulse { return &pulse{next: make(chan struct{})} }

// wait returns a channel that is closed at the next beat.
func (p *pulse) wait() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next
}

func (p *pulse) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.next)
	p.next = make(chan struct{})
}
