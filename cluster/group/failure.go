package group

import (
	"sync"

	"github.com/hashicorp/go-hclog"
)

// failure is the end of a group that must not go on: the first reason counts.
type failure struct {
	log   hclog.Logger
	fatal func(error)

	mu    sync.Mutex
	err   error
	ended chan struct{} // closed once err is set
	after func()        // cuts the group off from its peers; nil before it has any
}

func newFailure(log hclog.Logger, fatal func(error)) *failure {
	return &failure{log: log, fatal: fatal, ended: make(chan struct{})}
}

// fail ends the group. It returns at once, and does nothing the second time.
func (f *failure) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return
	}
	f.err = err
	close(f.ended)
	f.log.Error("this server cannot go on", "error", err)
	after := f.after
	// Nobody joins this goroutine: Fatal ends the process, or closes the group.
	go func() {
		if after != nil {
			after() // a server that has failed must not confirm anything to its peers
		}
		f.fatal(err)
	}()
}

// cause returns why the group ended, nil while it has not.
func (f *failure) cause() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *failure) failed() bool {
	select {
	case <-f.ended:
		return true
	default:
		return false
	}
}

// cutOff sets what separates the group from its peers when it fails.
func (f *failure) cutOff(after func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = after
}
