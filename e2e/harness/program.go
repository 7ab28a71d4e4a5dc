package harness

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
)

// Program is the [TB] of a program that is no test: the demo and the benchmarks.
type Program struct {
	ctx context.Context
	log io.Writer

	mu      sync.Mutex
	cleanup []func()
	failed  bool
}

// failure carries a Fatalf up to Run.
type failure struct{ error }

// Run calls body with a Program that logs to log, runs the cleanups in reverse
// order however body ends, and returns what body or a Fatalf failed with.
func Run(ctx context.Context, log io.Writer, body func(*Program) error) (err error) {
	p := &Program{ctx: ctx, log: log}
	defer RemoveBuilt()
	defer p.clean()
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = r.error
			p.fail()
		default:
			p.clean()
			panic(r)
		}
	}()
	if err := body(p); err != nil {
		p.fail()
		return err
	}
	return nil
}

// Helper does nothing.
func (p *Program) Helper() {}

// Context ends with the program.
func (p *Program) Context() context.Context { return p.ctx }

// Logf writes a line to the log.
func (p *Program) Logf(format string, args ...any) { fmt.Fprintf(p.log, format+"\n", args...) }

// Fatalf ends the body of Run with an error. Call it on the goroutine of body.
func (p *Program) Fatalf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

// Failed reports whether the body has failed; cleanups ask.
func (p *Program) Failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// Cleanup has f called when the body ends.
func (p *Program) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanup = append(p.cleanup, f)
}

// TempDir makes a folder that is removed when the body ends.
func (p *Program) TempDir() string {
	dir, err := os.MkdirTemp("", "wasmatrix-")
	if err != nil {
		p.Fatalf("%w", err)
	}
	p.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (p *Program) fail() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = true
}

func (p *Program) clean() {
	for {
		p.mu.Lock()
		n := len(p.cleanup)
		if n == 0 {
			p.mu.Unlock()
			return
		}
		f := p.cleanup[n-1]
		p.cleanup = p.cleanup[:n-1]
		p.mu.Unlock()
		f()
	}
}
