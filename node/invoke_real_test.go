package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// TestInvocationsOfRealGuests end in every way, and leave behind what each has used.
func TestInvocationsOfRealGuests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Config{})
	for _, tt := range []struct {
		function string
		args     []string
		limits   wasmatrix.Limits
		timeout  time.Duration
		code     wasmatrix.Code // of the answer
		kind     wasmatrix.CrashKind
		stderr   string
		stack    []string
	}{
		{function: "trap", code: wasmatrix.CodeCrashDetected, kind: wasmatrix.CrashTrap, stderr: "about to trap\n", stack: []string{"divide(i32) i32", "trap() i32"}},
		{function: "exit", args: []string{"3"}, code: wasmatrix.CodeCrashDetected, kind: wasmatrix.CrashExit},
		{function: "recurse", args: []string{"0"}, code: wasmatrix.CodeCrashDetected, kind: wasmatrix.CrashStack},
		{function: "grow", args: []string{"16"}, limits: wasmatrix.Limits{Memory: 4 << 20}, code: wasmatrix.CodeCrashDetected, kind: wasmatrix.CrashMemory},
		{function: "spin", args: []string{"0"}, limits: wasmatrix.Limits{Fuel: 1_000_000}, code: wasmatrix.CodeCrashDetected, kind: wasmatrix.CrashCPU},
		{function: "spin", args: []string{"0"}, limits: wasmatrix.Limits{Deadline: 500 * time.Millisecond}, code: wasmatrix.CodeTimeout, kind: wasmatrix.CrashDeadline},
		{function: "spin", args: []string{"0"}, timeout: 200 * time.Millisecond, code: wasmatrix.CodeTimeout, kind: wasmatrix.CrashDeadline},
		{function: "sleep", args: []string{"0"}, timeout: 200 * time.Millisecond, code: wasmatrix.CodeTimeout, kind: wasmatrix.CrashDeadline},
	} {
		id := wasmatrix.InstanceID(tt.function + "-" + string(tt.kind) + tt.timeout.String())
		w.start(t, id, nodetest.Module(t, "callee"), func(s *wasmatrix.Spec) { s.Limits = tt.limits })
		// Until it runs, so that the timeout is that of the execution.
		w.until(t, string(id), func() bool { return w.c.instance(id).Status == wasmatrix.StatusRunning })
		_, err := w.Invoke(t.Context(), wasmatrix.Invocation{Instance: id, Function: tt.function, Args: tt.args, Timeout: tt.timeout})
		status := w.c.instance(id).Status
		if e := wasmatrix.AsError(err); e == nil || e.Code != tt.code || e.Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeUnknown || e.Details["kind"] != string(tt.kind) {
			t.Errorf("%s: answered %v, want %s of %s", id, err, tt.code, tt.kind)
		}
		if status != wasmatrix.StatusCrashed {
			t.Errorf("%s: it is %s when the answer comes", id, status)
			continue
		}
		reports := w.c.reports(id)
		crash := reports[len(reports)-1].Crash
		if crash.Kind != tt.kind || crash.MemoryPeak < 2*wasmatrix.WasmPage || tt.kind == wasmatrix.CrashMemory && crash.MemoryPeak < 3<<20 {
			t.Errorf("%s: crash %+v", id, crash)
		}
		if used := tt.function == "spin" || tt.function == "recurse"; used && crash.Fuel < 10_000 {
			t.Errorf("%s: %d of fuel are used", id, crash.Fuel)
		}
		if tt.stack != nil && !slices.Equal(crash.Stack, tt.stack) {
			t.Errorf("%s: stack %q", id, crash.Stack)
		}
		if d := w.CrashDetails(id); len(d) != 1 || string(d[0].Stderr) != tt.stderr || tt.stack != nil && !slices.Equal(d[0].Stack, tt.stack) {
			t.Errorf("%s: details %+v", id, d)
		}
	}
}

// TestARealGuestIsCallableAfterACrash, in a new execution.
func TestARealGuestIsCallableAfterACrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Config{})
	w.start(t, "i", nodetest.Module(t, "callee"), restart(wasmatrix.RestartAlways, 0, wasmatrix.Backoff{Multiplier: 1}))
	invoke := func(function string, args ...string) (string, error) {
		r, err := w.Invoke(t.Context(), wasmatrix.Invocation{Instance: "i", Function: function, Args: args, Timeout: patience})
		if len(r.Results) == 0 {
			return "", err
		}
		return r.Results[0].Text, err
	}
	for _, crash := range []string{"trap", "exit", "recurse"} {
		for _, want := range []string{"1", "2"} {
			if n, err := invoke("count"); err != nil || n != want {
				t.Errorf("before %s: %q, %v; want %s", crash, n, err, want)
			}
		}
		var args []string
		if crash != "trap" {
			args = []string{"7"}
		}
		if _, err := invoke(crash, args...); wasmatrix.CodeOf(err) != wasmatrix.CodeCrashDetected {
			t.Errorf("%s: %v", crash, err)
		}
	}
	// What is refused does the instance no harm.
	if _, err := invoke("nobody"); wasmatrix.CodeOf(err) != wasmatrix.CodeValidation {
		t.Error(err)
	}
	if n, err := invoke("count"); err != nil || n != "1" {
		t.Errorf("%q, %v", n, err)
	}
	if got := summary(w.c.reports("i")); !strings.HasSuffix(got, "running/4") {
		t.Errorf("reports %s", got)
	}
}

// TestStdinOfASpec is what a real guest reads.
func TestStdinOfASpec(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Config{})
	w.runs(t, "i", nodetest.Module(t, "stdin"), func(s *wasmatrix.Spec) { s.Stdin = []byte("what it reads\n") })
	if text, _ := logged(t, w.Node, "i"); text != "what it reads\n" {
		t.Errorf("it has read %q", text)
	}
}
