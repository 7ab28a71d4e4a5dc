package node

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/cpu"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

// supervisor carries one epoch of an instance from its first execution to its
// last. Its fields are used by its own goroutine only.
type supervisor struct {
	n      *Node
	in     *instance
	module guest // nil before it is loaded
	share  *cpu.Share
	placed bool   // holds a place on the node
	row    uint32 // restarts that have followed one another
}

// execution is one run of the guest.
type execution struct {
	exit  engine.Exit
	code  wasmatrix.Code // why it could not be started, where the engine was not reached
	began time.Time      // when it was running; zero if it never was
	ended time.Time
	// output is where in the instance's output that of this execution begins.
	output uint64
}

func (x *execution) uptime() time.Duration {
	if x.began.IsZero() {
		return 0
	}
	return x.ended.Sub(x.began)
}

func (x *execution) failed() bool { return x.exit.Kind != engine.OK }

func (s *supervisor) supervise(prev <-chan struct{}) {
	defer s.n.supervised.Done()
	defer close(s.in.done)
	defer s.in.logs.release()
	defer s.in.cancel()
	if prev != nil {
		<-prev // at most one epoch of an instance runs (I6)
	}
	end := s.live()
	if s.in.client != nil {
		s.in.client.Close() // nothing of this epoch is under way when the next begins
		s.n.endedCalls(s.in)
	}
	// The place is free before the leader learns that it is.
	if s.module != nil {
		s.module.Release()
		s.share.Leave()
	}
	if s.placed {
		s.n.vacate(s.in.spec.Demand())
	}
	if end != nil {
		s.n.state(s.in, *end)
	}
	s.answer()
}

// live executes the guest for as long as its policy says. It returns the final
// report, or nil where there is none to make.
func (s *supervisor) live() (end *wasmatrix.Report) {
	defer func() {
		if r := recover(); r != nil {
			end = s.crashReport(wasmatrix.StatusCrashed, s.panicked(r))
		}
	}()
	for s.in.ctx.Err() == nil {
		x := s.execute()
		if s.in.ctx.Err() != nil {
			return s.interrupted(x)
		}
		policy := s.in.spec.Restart
		if reset := policy.Backoff.Reset; reset > 0 && x.uptime() >= reset {
			s.row = 0
		}
		if !policy.Allows(x.failed(), s.row) {
			return s.final(x)
		}
		s.row++
		delay := policy.Backoff.Delay(s.row, rand.Float64())
		s.n.log.Debug("instance will be restarted", "instance", s.in.id, "epoch", s.in.epoch, "attempt", s.in.attempt,
			"ended", x.exit.Kind, "message", x.exit.Message, "delay", delay)
		s.n.state(s.in, *s.crashReport(wasmatrix.StatusBackoff, x))
		s.answer()
		if !pause(s.in.ctx, delay) {
			break
		}
		s.n.nextAttempt(s.in)
	}
	return s.interrupted(execution{})
}

// startPatience is how long a guest may keep others from starting. One that
// spins before it is running would do so for ever.
const startPatience = 2 * time.Second

// execute runs the guest once. No panic leaves it.
func (s *supervisor) execute() (x execution) {
	output := s.in.logs.offset()
	defer func() {
		if r := recover(); r != nil {
			x = s.panicked(r)
		}
		x.ended, x.output = time.Now(), output
	}()
	ctx, spec := s.in.ctx, s.in.spec
	if err := s.prepare(ctx); err != nil {
		return cannotStart(err)
	}
	select {
	case s.n.starts <- struct{}{}:
	case <-ctx.Done():
		return cannotStart(ctx.Err())
	}
	free := sync.OnceFunc(func() { <-s.n.starts })
	patience := time.AfterFunc(startPatience, free)
	started := func() {
		patience.Stop() // here, or each instance that runs would keep it
		free()
	}
	defer started()

	var began time.Time
	exit := s.module.Run(ctx, engine.RunConfig{
		Args: arguments(spec), Env: spec.Env, Stdin: spec.Stdin,
		Stdout: s.in.logs.writer(LogStdout), Stderr: s.in.logs.writer(LogStderr),
		MemoryLimit: spec.Limits.Memory, Share: s.share, Fuel: spec.Limits.Fuel, Deadline: spec.Limits.Deadline,
		Calls: s.in.calls, Capabilities: s.in.client,
		OnRunning: func() {
			started()
			began = time.Now()
			s.n.state(s.in, wasmatrix.Report{Status: wasmatrix.StatusRunning, At: wasmatrix.TimeOf(began)})
		},
	})
	return execution{exit: exit, began: began}
}

// arguments puts a name before the arguments of a spec, as programs expect one.
func arguments(spec *wasmatrix.Spec) []string {
	name := spec.ModuleName
	if name == "" {
		name = spec.Module.Short()
	}
	return append([]string{name}, spec.Args...)
}

// prepare takes a place on the node and loads the module, each once for all
// executions.
func (s *supervisor) prepare(ctx context.Context) error {
	if !s.placed {
		if err := s.n.occupy(ctx, s.in.spec.Demand()); err != nil {
			return err
		}
		s.placed = true
	}
	if s.module != nil {
		return nil
	}
	var err error
	if s.module, err = s.n.load(ctx, s.in.spec.Module); err != nil {
		return err
	}
	s.share = s.n.cfg.guests.Share(s.in.spec.Limits.CPU)
	if s.module.Kind() == wasmatrix.ModuleCommand {
		close(s.in.commands)
	}
	return nil
}

// fetchPatience is how long a module is asked for while nobody can be reached.
const fetchPatience = 30 * time.Second

func (n *Node) load(ctx context.Context, digest wasmatrix.Digest) (guest, error) {
	fetch := n.fetch(digest)
	began := time.Now()
	retry := backoff{first: 50 * time.Millisecond, limit: 2 * time.Second}
	for {
		m, err := n.cfg.guests.Load(ctx, digest, fetch)
		if err == nil {
			return m, nil
		}
		if !wasmatrix.AsError(err).Retryable() || time.Since(began) > fetchPatience || !retry.wait(ctx, nil) {
			return nil, err
		}
	}
}

// fetch gives the bytes of a module.
func (n *Node) fetch(digest wasmatrix.Digest) engine.Fetch {
	return func(ctx context.Context) ([]byte, error) { return n.cfg.Modules.Module(ctx, digest) }
}

func cannotStart(err error) execution {
	e := wasmatrix.AsError(err)
	return execution{exit: engine.Exit{Kind: engine.Start, Message: e.Message}, code: e.Code}
}

func (s *supervisor) panicked(r any) execution {
	s.n.log.Error("supervision panicked", "instance", s.in.id, "panic", r, "stack", string(debug.Stack()))
	return execution{
		exit: engine.Exit{Kind: engine.Host, Message: fmt.Sprintf("the node failed: %v", r)}, ended: time.Now(), output: s.in.logs.offset(),
	}
}

// interrupted is the end of an instance whose context has ended: because a stop
// was asked for, which is reported, or because this epoch or the node is over.
func (s *supervisor) interrupted(x execution) *wasmatrix.Report {
	s.n.mu.Lock()
	stopping := s.in.stopping
	s.n.mu.Unlock()
	if !stopping {
		return nil
	}
	return &wasmatrix.Report{Status: wasmatrix.StatusStopped, Reason: "stopped on request", ExitCode: x.exit.Code}
}

// final is the end of an instance that ended by itself, for good.
func (s *supervisor) final(x execution) *wasmatrix.Report {
	policy := s.in.spec.Restart
	if !x.failed() {
		reason := "ended"
		if x.exit.Code != nil {
			reason = "exited with code 0"
		}
		if policy.Mode == wasmatrix.RestartAlways {
			reason += fmt.Sprintf("; all %d restarts are used up", policy.MaxRetries)
		}
		return &wasmatrix.Report{Status: wasmatrix.StatusStopped, Reason: reason, ExitCode: x.exit.Code}
	}
	s.n.log.Info("instance crashed", "instance", s.in.id, "epoch", s.in.epoch, "attempt", s.in.attempt,
		"kind", x.exit.Kind, "message", x.exit.Message)
	r := s.crashReport(wasmatrix.StatusCrashed, x)
	if policy.Mode != wasmatrix.RestartNever {
		r.Error = wasmatrix.CodeRestartPolicyViolation
		r.Reason = wasmatrix.BoundText(fmt.Sprintf("all %d restarts are used up; %s", policy.MaxRetries, r.Reason), wasmatrix.MaxReason)
	}
	return r
}

// nextAttempt counts an execution that is about to begin. A guest that crashes
// without backoff gets to the end of the numbers within days; from there on the
// reports are in order by their Seq alone.
func (n *Node) nextAttempt(in *instance) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if in.attempt < math.MaxUint32 {
		in.attempt++
	}
	in.status = wasmatrix.StatusStarting
}

// pause waits for d, and reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
