package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// TestCallsThatEndTheRun: the caller learns how, and so does who runs the guest.
func TestCallsThatEndTheRun(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	type end struct {
		name, function string
		args           []string
		cfg            RunConfig
		kind           Kind
		code           wasmatrix.Code
		message        string // of the exit
		said           string // to the caller, where it is not the message
		stack          []string
		exit           int32 // of proc_exit
	}
	for _, tt := range []end{
		{
			name: "trap", function: "trap", kind: Trap, code: wasmatrix.CodeCrashDetected, message: "integer divide by zero",
			said: "trap: integer divide by zero", stack: []string{"divide(i32) i32", "trap() i32"},
		},
		{name: "exit 7", function: "exit", args: []string{"7"}, kind: Failed, code: wasmatrix.CodeCrashDetected, message: "exit code 7", said: "exited with code 7", exit: 7},
		{name: "exit 0", function: "exit", args: []string{"0"}, kind: OK, code: wasmatrix.CodeCrashDetected, said: "exited with code 0"},
		{name: "recursion", function: "recurse", args: []string{"0"}, kind: Stack, code: wasmatrix.CodeCrashDetected, message: "call depth exceeded"},
		{
			name: "memory", function: "grow", args: []string{"16"}, cfg: RunConfig{MemoryLimit: 4 << 20}, kind: Memory, code: wasmatrix.CodeCrashDetected,
			message: "memory limit of 4MiB: refused to grow to", said: "memory: memory limit of 4MiB",
		},
		{name: "fuel", function: "spin", args: []string{"0"}, cfg: RunConfig{Fuel: 300_000}, kind: CPU, code: wasmatrix.CodeCrashDetected, message: "fuel budget used up"},
		{
			name: "deadline of the run", function: "spin", args: []string{"0"}, cfg: RunConfig{Deadline: 300 * time.Millisecond}, kind: Deadline,
			code: wasmatrix.CodeTimeout, message: "the deadline passed",
		},
		{
			name: "deadline of the run, asleep", function: "sleep", args: []string{"0"}, cfg: RunConfig{Deadline: 300 * time.Millisecond}, kind: Deadline,
			code: wasmatrix.CodeTimeout, message: "the deadline passed",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := runReactor(t, e, "callee", tt.cfg)
			_, err := r.call(tt.function, tt.args...)
			exit := r.wait()
			if exit.Kind != tt.kind || !strings.Contains(exit.Message, tt.message) {
				t.Errorf("exit %+v, want %s with %q", exit, tt.kind, tt.message)
			}
			if tt.kind == OK || tt.kind == Failed {
				if exit.Code == nil || *exit.Code != tt.exit {
					t.Errorf("exit code %v, want %d", exit.Code, tt.exit)
				}
			} else if exit.Code != nil {
				t.Errorf("exit code %d", *exit.Code)
			}
			if tt.stack != nil && strings.Join(exit.Stack, "\n") != strings.Join(tt.stack, "\n") {
				t.Errorf("stack %q, want %q", exit.Stack, tt.stack)
			}
			if tt.said == "" {
				tt.said = tt.message
			}
			endedUnder(t, err, tt.code, tt.kind, tt.said)
		})
	}
}

// endedUnder checks the answer to a call under which the run has ended.
func endedUnder(t *testing.T, err error, code wasmatrix.Code, kind Kind, message string) {
	t.Helper()
	e := wasmatrix.AsError(err)
	if e == nil || e.Code != code || e.Details["kind"] != string(kind) || e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeUnknown || !strings.Contains(e.Message, message) {
		t.Errorf("the caller is told %v, want %s of kind %s with %q", err, code, kind, message)
	}
}

// TestACallIsEndedAtItsDeadline, and the run with it.
func TestACallIsEndedAtItsDeadline(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	for _, function := range []string{"spin", "sleep"} {
		t.Run(function, func(t *testing.T) {
			t.Parallel()
			r := runReactor(t, e, "callee", RunConfig{})
			began := time.Now()
			const limit = 50 * time.Millisecond
			done := r.send(wasmatrix.Invocation{Function: function, Args: []string{"0"}}, func(c *Call) { c.Deadline = began.Add(limit) })
			endedUnder(t, (<-done).err, wasmatrix.CodeTimeout, Deadline, "the deadline of an invocation passed")
			if d := time.Since(began); d < limit || d > limit+10*time.Second {
				t.Errorf("after %s", d)
			}
			if exit := r.wait(); exit.Kind != Deadline || exit.Message != errCallDeadline.Error() {
				t.Errorf("exit %+v", exit)
			}
		})
	}
}

// TestTheDeadlineOfACallIsItsOwn: one that has ended in time leaves none behind.
func TestTheDeadlineOfACallIsItsOwn(t *testing.T) {
	t.Parallel()
	r := runReactor(t, newEngine(t, Config{}), "callee", RunConfig{})
	deadline := time.Now().Add(time.Second)
	a := <-r.send(wasmatrix.Invocation{Function: "count"}, func(c *Call) { c.Deadline = deadline })
	if a.err != nil {
		t.Fatal(a.err)
	}
	for n := 0; time.Now().Before(deadline.Add(20 * time.Millisecond)); n++ {
		if _, err := r.call("work", "100000"); err != nil {
			t.Fatalf("call %d: %v", n, err)
		}
	}
	if res, err := r.call("count"); err != nil || res.Results[0].Text != "2" {
		t.Errorf("%v, %v", res.Results, err)
	}
}

// TestACallEndsWithItsRun, when that is told to.
func TestACallEndsWithItsRun(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	for _, function := range []string{"spin", "sleep"} {
		r := runReactor(t, e, "callee", RunConfig{})
		begun := make(chan struct{})
		done := r.send(wasmatrix.Invocation{Function: function, Args: []string{"0"}}, func(c *Call) {
			c.Begin = func() bool { close(begun); return true }
		})
		<-begun
		if exit := r.end(errors.New("told to stop")); exit.Kind != Cancelled || exit.Message != "told to stop" {
			t.Errorf("%s: exit %+v", function, exit)
		}
		endedUnder(t, (<-done).err, wasmatrix.CodeCommunication, Cancelled, "told to stop")
	}
}

// TestACallThatNobodyWaitsForIsNotBegun, and the next one is.
func TestACallThatNobodyWaitsForIsNotBegun(t *testing.T) {
	t.Parallel()
	r := runReactor(t, newEngine(t, Config{}), "callee", RunConfig{})
	given := r.send(wasmatrix.Invocation{Function: "trap"}, func(c *Call) { c.Begin = func() bool { return false } })
	if res, err := r.call("count"); err != nil || res.Results[0].Text != "1" {
		t.Errorf("%v, %v", res.Results, err)
	}
	select {
	case a := <-given:
		t.Errorf("it was answered: %+v", a)
	default:
	}
}

// TestACallWithoutACoreIsNotBegun: its time is up while another guest has the
// core, which does not end the run.
func TestACallWithoutACoreIsNotBegun(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{Cores: 1})
	r := runReactor(t, e, "callee", RunConfig{})
	// Who holds the core never comes by.
	hog := e.cores.Join(1000)
	defer hog.Leave()
	if err := hog.Acquire(context.Background()); err != nil {
		t.Fatal(err)
	}
	done := r.send(wasmatrix.Invocation{Function: "trap"}, func(c *Call) { c.Deadline = time.Now().Add(20 * time.Millisecond) })
	err := wasmatrix.AsError((<-done).err)
	if err == nil || err.Code != wasmatrix.CodeTimeout || err.Details["kind"] != "" || err.Details[wasmatrix.DetailOutcome] == wasmatrix.OutcomeUnknown {
		t.Errorf("told %v, %v", err, err.Details)
	}
	hog.Release()
	if res, err := r.call("count"); err != nil || res.Results[0].Text != "1" {
		t.Errorf("%v, %v", res.Results, err)
	}
}

// TestStateLastsFromCallToCall, and no longer than the run.
func TestStateLastsFromCallToCall(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	for range 2 {
		r := runReactor(t, e, "callee", RunConfig{})
		for _, want := range []string{"1", "2", "3"} {
			if res, err := r.call("count"); err != nil || res.Results[0].Text != want {
				t.Errorf("%v, %v; want %s", res.Results, err, want)
			}
		}
		r.end(errTest)
	}
}
