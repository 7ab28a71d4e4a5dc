package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tetratelabs/wazero/sys"

	"github.com/wasmatrix/wasmatrix"
)

// Kind is the way in which a run ended.
type Kind string

// The kinds of exit. All but OK and Cancelled are crashes.
const (
	OK        Kind = "ok"        // returned, or exited with code 0
	Failed    Kind = "exit"      // exited with another code
	Trap      Kind = "trap"      // executed something that traps
	Memory    Kind = "memory"    // ended by itself after its memory limit had refused it
	Deadline  Kind = "deadline"  // the deadline passed
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
	Stack   []string // Wasm stack trace, innermost first; with Trap, Memory and Host
	// MemoryPeak is the largest size of linear memory, in bytes.
	MemoryPeak uint64
}

func startFailure(message string) Exit {
	return Exit{Kind: Start, Message: bounded(message, wasmatrix.MaxCrashMessage)}
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
	if errors.Is(cause, errDeadline) {
		return Exit{Kind: Deadline, Message: errDeadline.Error()}
	}
	return Exit{Kind: Cancelled, Message: bounded(cause.Error(), wasmatrix.MaxCrashMessage)}
}

// classify tells what an error of wazero means. plain makes the exit of an
// error that has no Wasm stack trace.
func classify(ctx context.Context, err error, mem *memory, plain func(string) Exit) Exit {
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		return exited(ctx, exit.ExitCode(), mem)
	}
	message, trace, traced := strings.Cut(err.Error(), "\nwasm stack trace:\n")
	if !traced {
		return plain(message)
	}
	trace, _, _ = strings.Cut(trace, "\n\n") // what follows is the stack of Go
	exit := Exit{Kind: Trap, Stack: frames(trace)}
	if host, ok := strings.CutSuffix(message, " (recovered by wazero)"); ok {
		exit.Kind, message = Host, host
	} else if _, trap, ok := strings.Cut(message, "wasm error: "); ok {
		message = trap
	}
	exit.Message = bounded(message, wasmatrix.MaxCrashMessage)
	if exit.Kind == Trap {
		mem.blame(&exit)
	}
	return exit
}

// exited is the exit of a guest that called proc_exit, or whose context ended.
// wazero tells the latter by two codes that a guest may use as well, so the
// context decides.
func exited(ctx context.Context, code uint32, mem *memory) Exit {
	if ctx.Err() != nil && (code == sys.ExitCodeContextCanceled || code == sys.ExitCodeDeadlineExceeded) {
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

// frames reads a stack trace of wazero: a line for each frame, behind one tab,
// and lines of source behind two.
func frames(trace string) []string {
	var out []string
	for line := range strings.SplitSeq(trace, "\n") {
		source := strings.HasPrefix(line, "\t\t")
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case source && len(out) > 0:
			out[len(out)-1] = bounded(out[len(out)-1]+" "+line, wasmatrix.MaxCrashFrame)
		case len(out) == wasmatrix.MaxCrashFrames:
			return out
		default:
			// Instances have no name, which leaves a point before the function's.
			out = append(out, bounded(strings.TrimPrefix(line, "."), wasmatrix.MaxCrashFrame))
		}
	}
	return out
}

// bounded returns s as valid UTF-8 of at most n bytes.
func bounded(s string, n int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= n {
		return s
	}
	const more = "…"
	s = s[:n-len(more)]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + more
}
