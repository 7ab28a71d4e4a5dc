package node

import (
	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/engine"
)

// crashReport says how an execution ended that is followed by another, or that
// failed. After an end that was no failure it has neither crash nor error.
func (s *supervisor) crashReport(status wasmatrix.Status, x execution) *wasmatrix.Report {
	r := &wasmatrix.Report{Status: status, ExitCode: x.exit.Code}
	if !x.failed() {
		r.Reason = "ended"
		return r
	}
	kind, code := crashKind(x.exit.Kind)
	if x.code != "" {
		code = x.code
	}
	r.Error = code
	r.Reason = wasmatrix.BoundText(string(kind)+": "+x.exit.Message, wasmatrix.MaxReason)
	r.At = wasmatrix.TimeOf(x.ended)
	r.Crash = &wasmatrix.Crash{
		Kind: kind, Message: wasmatrix.BoundText(x.exit.Message, wasmatrix.MaxCrashMessage), ExitCode: x.exit.Code,
		Stack: x.exit.Stack[:min(len(x.exit.Stack), wasmatrix.MaxCrashFrames)],
		Node:  s.n.cfg.ID, Epoch: s.in.epoch, Uptime: int64(x.uptime()), At: r.At, Fuel: x.exit.Fuel, MemoryPeak: x.exit.MemoryPeak,
	}
	s.n.keepCrash(s.in, wasmatrix.CrashDetail{Stack: x.exit.Stack, Stderr: s.in.logs.last(LogStderr, x.output, wasmatrix.MaxDetailStderr)})
	return r
}

// crashKind names an exit that is a failure, and the code that users see.
func crashKind(k engine.Kind) (wasmatrix.CrashKind, wasmatrix.Code) {
	switch k {
	case engine.Failed:
		return wasmatrix.CrashExit, wasmatrix.CodeCrashDetected
	case engine.Trap:
		return wasmatrix.CrashTrap, wasmatrix.CodeCrashDetected
	case engine.Memory:
		return wasmatrix.CrashMemory, wasmatrix.CodeResourceExhausted
	case engine.Deadline:
		return wasmatrix.CrashDeadline, wasmatrix.CodeTimeout
	case engine.CPU:
		return wasmatrix.CrashCPU, wasmatrix.CodeResourceExhausted
	case engine.Stack:
		return wasmatrix.CrashStack, wasmatrix.CodeCrashDetected
	case engine.Start:
		return wasmatrix.CrashStart, wasmatrix.CodeWasmRuntime
	case engine.Cancelled:
		return wasmatrix.CrashCancelled, wasmatrix.CodeCrashDetected
	default:
		return wasmatrix.CrashHost, wasmatrix.CodeCrashDetected
	}
}
