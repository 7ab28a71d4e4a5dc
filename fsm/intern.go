package fsm

import "github.com/wasmatrix/wasmatrix"

// Bounds of the interner: it saves memory and is no part of the state, so it
// may forget whenever it likes.
const (
	maxInternedSpecs = 1024
	maxInternedSpec  = 256 << 10 // bytes of one spec's canonical form; admission lets none be as large
	keptInternBuffer = 4 << 10
	maxInternedBytes = 8 << 20 // of all canonical forms together
)

// specInterner lets start requests that ask for the same share one Spec. The
// zero value is ready for use, by one goroutine at a time.
type specInterner struct {
	byText map[string]*wasmatrix.Spec
	bytes  int // of the keys of byText
	buf    []byte
}

// intern returns an equal Spec seen earlier, or s.
func (in *specInterner) intern(s *wasmatrix.Spec) *wasmatrix.Spec {
	in.buf = appendSpec(in.buf[:0], s, hashVersion)
	if len(in.buf) > maxInternedSpec {
		in.buf = nil
		return s
	}
	if old, ok := in.byText[string(in.buf)]; ok {
		return old
	}
	if in.byText == nil || len(in.byText) >= maxInternedSpecs || in.bytes+len(in.buf) > maxInternedBytes {
		in.byText, in.bytes = make(map[string]*wasmatrix.Spec), 0
	}
	in.byText[string(in.buf)] = s
	in.bytes += len(in.buf)
	if cap(in.buf) > keptInternBuffer {
		in.buf = nil
	}
	return s
}

// Constants that arrive as text are replaced by the one copy that the program
// has, so that a million records do not each hold their own.
var (
	knownCodes = internTable(wasmatrix.Codes...)
	knownKinds = internTable(
		wasmatrix.CrashTrap, wasmatrix.CrashExit, wasmatrix.CrashMemory, wasmatrix.CrashDeadline,
		wasmatrix.CrashCPU, wasmatrix.CrashStack, wasmatrix.CrashStart, wasmatrix.CrashHost, wasmatrix.CrashNodeLost, wasmatrix.CrashCancelled,
	)
	knownFacts = internTable(
		wasmatrix.FactRequested, wasmatrix.FactPlaced, wasmatrix.FactMoved, wasmatrix.FactStarted,
		wasmatrix.FactCrashed, wasmatrix.FactRestarting, wasmatrix.FactExited, wasmatrix.FactStopRequested,
		wasmatrix.FactRestartRequested, wasmatrix.FactStopped, wasmatrix.FactFailed, wasmatrix.FactLost,
		wasmatrix.FactAssigned, wasmatrix.FactRevoked, wasmatrix.FactDenied, wasmatrix.FactNodeUp,
		wasmatrix.FactNodeDown, wasmatrix.FactNodeDrain, wasmatrix.FactNodeUndrain,
		wasmatrix.FactNodeForgotten, wasmatrix.FactModuleAdded, wasmatrix.FactModuleRemoved,
		wasmatrix.FactProviderChanged, wasmatrix.FactProviderRemoved, wasmatrix.FactClusterFormed,
	)
	knownProviders = internTable(wasmatrix.ProviderKV, wasmatrix.ProviderHTTP, wasmatrix.ProviderMessaging)
)

func internTable[T ~string](values ...T) map[string]T {
	m := make(map[string]T, len(values))
	for _, v := range values {
		m[string(v)] = v
	}
	return m
}

func interned[T ~string](table map[string]T, s string) T {
	if v, ok := table[s]; ok {
		return v
	}
	return T(s)
}
