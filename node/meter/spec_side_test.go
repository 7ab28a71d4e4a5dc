package meter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/wasmatrix/wasmatrix/node/meter"
)

// outcome is what came of a command on one side.
type outcome struct {
	refused error  // the module is malformed or invalid
	failure string // of an instantiation or a call: the trap by its name, or the text of the error
	types   []api.ValueType
	values  []uint64
}

func (o outcome) String() string {
	switch {
	case o.refused != nil:
		return "refused: " + o.refused.Error()
	case o.failure != "":
		return "failed: " + o.failure
	default:
		return fmt.Sprintf("%#x", o.values)
	}
}

// same tells whether metering has changed nothing.
func (o outcome) same(p outcome) bool {
	return (o.refused == nil) == (p.refused == nil) && o.failure == p.failure && bytes.Equal(o.types, p.types) && sameValues(o.types, o.values, p.values)
}

// traps are the engine's names of them.
var traps = []string{
	"stack overflow", "invalid conversion to integer", "integer overflow", "integer divide by zero", "unreachable",
	"out of bounds memory access", "invalid table access", "indirect call type mismatch", "unaligned atomic",
	"expected shared memory", "null reference", "uncaught exception",
}

// failure names the trap of an error. The stack trace is no part of it: functions have other numbers.
func failure(err error) string {
	if err == nil {
		return ""
	}
	if errors.Is(err, errStack) {
		return "stack overflow"
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	for _, trap := range traps {
		if strings.Contains(first, trap) {
			return trap
		}
	}
	// The maximum of a table is capped when it is metered, so that the figures differ.
	reason, _, _ := strings.Cut(first, "maximum size mismatch")
	return reason
}

// specSide runs the commands of a script, metered or not, in a runtime of its own.
type specSide struct {
	t       testing.TB
	runtime wazero.Runtime
	meter   bool
	host    *host
	modules map[string]api.Module // by the names within the script
	all     []api.Module          // in the order in which they were instantiated
	last    api.Module            // nil if it could not be
}

// maxPages bounds what guests that grow as far as they can take of the machine.
// The specification's tests need less.
const maxPages = 4096

func newSpecSide(t testing.TB, dir string, f api.CoreFeatures, metered bool) *specSide {
	t.Helper()
	s := &specSide{
		t: t, meter: metered, host: &host{slice: 100}, modules: map[string]api.Module{},
		runtime: wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfig().WithCoreFeatures(f).WithMemoryLimitPages(maxPages)),
	}
	t.Cleanup(func() { s.runtime.Close(context.WithoutCancel(t.Context())) })
	if metered {
		s.host.instantiate(t, s.runtime)
	}
	if o := s.instantiate(read(t, dir+"/testdata/spectest.wasm"), "", "spectest"); o.refused != nil || o.failure != "" {
		t.Fatal("spectest: ", o)
	}
	return s
}

// instantiate adds a module, under a name for the script and one for imports, both optional.
func (s *specSide) instantiate(wasm []byte, name, registered string) (o outcome) {
	s.last = nil
	if s.meter {
		before := slices.Clone(wasm)
		out, err := meter.Rewrite(wasm, meter.Options{})
		if !bytes.Equal(before, wasm) {
			s.t.Error("Rewrite has changed its source")
		}
		if err != nil {
			return outcome{refused: err}
		}
		wasm = out.Wasm
	}
	compiled, err := s.runtime.CompileModule(s.t.Context(), wasm)
	if err != nil {
		return outcome{refused: err}
	}
	m, err := s.runtime.InstantiateModule(s.t.Context(), compiled, wazero.NewModuleConfig().WithName(registered).WithStartFunctions())
	if err != nil {
		return outcome{failure: failure(err)}
	}
	if s.meter {
		raiseDepth(m, enoughStack)
	}
	s.last = m
	s.all = append(s.all, m)
	if name != "" {
		s.modules[name] = m
	}
	return outcome{}
}

// do calls a function or reads a global. It is absent where the module could not be instantiated.
func (s *specSide) do(a specAction) (o outcome, present bool) {
	m := s.last
	if a.Module != "" {
		m = s.modules[a.Module]
	}
	if m == nil {
		return outcome{}, false
	}
	switch a.Type {
	case "get":
		g := m.ExportedGlobal(a.Field)
		if g == nil {
			return outcome{failure: "no such global"}, true
		}
		return outcome{types: []api.ValueType{g.Type()}, values: []uint64{g.Get()}}, true
	case "invoke":
		f := m.ExportedFunction(a.Field)
		if f == nil {
			return outcome{failure: "no such function"}, true
		}
		values, err := f.Call(s.t.Context(), specArgs(a.Args)...)
		if err != nil {
			return outcome{failure: failure(err)}, true
		}
		return outcome{types: f.Definition().ResultTypes(), values: slices.Clone(values)}, true
	default:
		s.t.Fatal("action of type ", a.Type)
		return outcome{}, false
	}
}

// settle checks, after a call, that every module's depth is what it began with, which
// it is unless the call trapped. A node ends an instance that trapped; the
// scripts go on with it, so it is put back.
func (s *specSide) settle(trapped bool) error {
	if !s.meter {
		return nil
	}
	for i, m := range s.all {
		depth := m.ExportedGlobal(meter.ExportDepth).(api.MutableGlobal)
		if depth.Get() == enoughStack {
			continue
		}
		if !trapped {
			return fmt.Errorf("module %d: %d bytes of stack are left of %d after the call", i, int32(depth.Get()), enoughStack)
		}
		depth.Set(enoughStack)
	}
	return nil
}

// state describes what is left of all modules: their memories and numeric globals.
func (s *specSide) state() []string {
	var state []string
	for i, m := range s.all {
		// A module without memory has a nil pointer here, not a nil interface.
		if mem := m.Memory(); !reflect.ValueOf(mem).IsNil() {
			b, _ := mem.Read(0, mem.Size())
			state = append(state, fmt.Sprintf("module %d: memory of %d bytes, checksum %08x", i, len(b), crc32.ChecksumIEEE(b)))
		}
		globals := m.(experimental.InternalModule)
		n := globals.NumGlobal()
		if s.meter {
			n -= 2 // the fuel and the depth
		}
		for j := range n {
			switch g := globals.Global(j); g.Type() {
			case api.ValueTypeI32, api.ValueTypeI64, api.ValueTypeF32, api.ValueTypeF64:
				state = append(state, fmt.Sprintf("module %d: global %d is %#x", i, j, g.Get()))
			}
		}
	}
	return state
}
