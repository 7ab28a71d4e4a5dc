package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/meter"
)

// Kind is the way in which a run ended.
type Kind string

// The kinds of exit. All but OK and Cancelled are crashes.
const (
	OK        Kind = "ok"        // returned, or exited with code 0
	Failed    Kind = "exit"      // exited with another code
	Trap      Kind = "trap"      // executed something that traps
	Memory    Kind = "memory"    // ended by itself after its memory limit had refused it
	CPU       Kind = "cpu"       // used up its fuel
	Stack     Kind = "stack"     // nested calls too deeply
	Deadline  Kind = "deadline"  // a deadline passed, of the run or of a call
	Cancelled Kind = "cancelled" // the context of the run ended
	Start     Kind = "start"     // could not be linked or instantiated
	Host      Kind = "host"      // the engine or a host function failed
)

// Exit is how a run ended. Its texts are within the bounds that the root
// package sets for crashes, and valid UTF-8.
type Exit struct {
	Kind    Kind
	Code    *int32   // of proc_exit; nil where the guest did not call it
	Message string   // "" with OK
	Stack   []string // Wasm stack trace, innermost first, at most MaxDetailFrames; with Trap, Memory, CPU, Stack and Host
	// MemoryPeak is the largest size of linear memory, in bytes.
	MemoryPeak uint64
	Fuel       uint64        // used, in units of about one instruction
	CPU        time.Duration // time on a core
}

// Err is what the caller of an invocation learns of a run that ended under it.
func (e *Exit) Err() error {
	details := func(err *wasmatrix.Error) error {
		return err.With("kind", string(e.Kind)).With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
	}
	switch e.Kind {
	case Deadline:
		return details(wasmatrix.Errorf(wasmatrix.CodeTimeout, "%s; the instance was ended", e.Message))
	case Cancelled:
		return details(wasmatrix.Errorf(wasmatrix.CodeCommunication, "the instance was ended: %s", e.Message))
	case OK, Failed:
		return details(wasmatrix.Errorf(wasmatrix.CodeCrashDetected, "the instance exited with code %d", *e.Code))
	default:
		return details(wasmatrix.Errorf(wasmatrix.CodeCrashDetected, "%s: %s", e.Kind, e.Message))
	}
}

func startFailure(message string) Exit {
	return Exit{Kind: Start, Message: wasmatrix.BoundText(message, wasmatrix.MaxCrashMessage)}
}

// untraced is the exit of a call that failed without a Wasm stack trace: wazero
// gives none of an overflowing stack, and other errors mean that the call did
// not begin.
func untraced(message string) Exit {
	if message == "stack overflow" {
		return Exit{Kind: Trap, Message: message}
	}
	return startFailure(message)
}

// interrupted is the exit of a run whose context has ended.
func interrupted(ctx context.Context) Exit {
	cause := context.Cause(ctx)
	if errors.Is(cause, errDeadline) || errors.Is(cause, errCallDeadline) {
		return Exit{Kind: Deadline, Message: cause.Error()}
	}
	return Exit{Kind: Cancelled, Message: wasmatrix.BoundText(cause.Error(), wasmatrix.MaxCrashMessage)}
}

// classify tells what an error of wazero means. plain makes the exit of an
// error that has no Wasm stack trace.
func (s *shared) classify(x *execution, err error, plain func(string) Exit) Exit {
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		return exited(x.Context, exit.ExitCode(), x.mem)
	}
	message, trace, traced := strings.Cut(err.Error(), "\nwasm stack trace:\n")
	if !traced {
		return plain(message)
	}
	trace, _, _ = strings.Cut(trace, "\n\n") // what follows is the stack of Go
	exit := Exit{Kind: Trap, Stack: s.frames(trace)}
	host, failed := strings.CutSuffix(message, " (recovered by wazero)")
	switch {
	case errors.Is(err, errFuel):
		exit.Kind, message = CPU, errFuel.Error()
	case errors.Is(err, errDepth):
		exit.Kind, message = Stack, fmt.Sprintf("%s: nested calls may take about %s of native stack, a %dnd part of the memory limit at most",
			errDepth, wasmatrix.FormatBytes(max(meter.MinStack, x.stack)), stackPart)
	case failed:
		exit.Kind, message = Host, host
	default:
		message = strings.TrimPrefix(message, "wasm error: ")
		if _, trap, ok := strings.Cut(message, "wasm error: "); ok { // of a start section
			message = trap
		}
	}
	exit.Message = wasmatrix.BoundText(message, wasmatrix.MaxCrashMessage)
	if exit.Kind == Trap {
		x.mem.blame(&exit)
	}
	return exit
}

// exited is the exit of a guest that called proc_exit, or whose context ended.
// The latter is told by a code that a guest may use as well, so the context decides.
func exited(ctx context.Context, code uint32, mem *memory) Exit {
	if ctx.Err() != nil && code == sys.ExitCodeContextCanceled {
		return interrupted(ctx)
	}
	c := int32(code)
	if c == 0 {
		return Exit{Kind: OK, Code: &c}
	}
	exit := Exit{Kind: Failed, Code: &c, Message: fmt.Sprintf("exit code %d", c)}
	mem.blame(&exit)
	return exit
}
