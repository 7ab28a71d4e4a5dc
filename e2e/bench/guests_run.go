package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
	scheduler "github.com/wasmatrix/wasmatrix/node/cpu"
	"github.com/wasmatrix/wasmatrix/node/meter"
)

// variant is a way to run guests: as they are, metered, or with the engine's own
// means against endless loops.
type variant struct {
	name    string
	metered bool
	config  wazero.RuntimeConfig
	rounds  int // at most; 0 is as many as asked for
}

func variants() []variant {
	config := wazero.NewRuntimeConfigCompiler().
		WithCoreFeatures(api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst)
	return []variant{
		{"unmetered", false, config, 0},
		{"metered", true, config, 0},
		// It takes six times as long, which no accident hides.
		{"WithCloseOnContextDone", false, config.WithCloseOnContextDone(true), 2},
	}
}

// refiller refills metered guests as a node does: each slice of fuel takes some
// 400 µs, and after each the guest's share of the cores is charged.
type refiller struct {
	share   *scheduler.Share
	slice   int64
	resumed time.Time
}

func (r *refiller) refill(ctx context.Context, stack []uint64) {
	now := time.Now()
	switch took := now.Sub(r.resumed); {
	case took > 800*time.Microsecond:
		r.slice = max(1_000, r.slice/2)
	case took < 200*time.Microsecond:
		r.slice = min(2_000_000, r.slice*2)
	}
	if err := r.share.Yield(ctx); err != nil {
		panic(err)
	}
	r.resumed = now
	stack[0] = uint64(r.slice)
}

// loaded is a guest, compiled for one variant in a runtime of its own.
type loaded struct {
	guest
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	refiller *refiller
	share    *scheduler.Share
}

func load(ctx context.Context, g guest, v variant, cores *scheduler.Scheduler) (_ *loaded, err error) {
	l := &loaded{guest: g, runtime: wazero.NewRuntimeWithConfig(ctx, v.config), refiller: &refiller{slice: 200_000}}
	defer func() {
		if err != nil {
			l.close(ctx)
		}
	}()
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, l.runtime); err != nil {
		return nil, err
	}
	// It may use more than all of a core, so that its quota never makes it wait.
	l.share = cores.Join(4000)
	l.refiller.share = l.share
	wasm := g.wasm
	if v.metered {
		out, err := meter.Rewrite(wasm, meter.Options{})
		if err != nil {
			return nil, err
		}
		wasm = out.Wasm
		b := l.runtime.NewHostModuleBuilder(meter.HostModule)
		b.NewFunctionBuilder().WithGoFunction(api.GoFunc(l.refiller.refill), []api.ValueType{api.ValueTypeI64}, []api.ValueType{api.ValueTypeI64}).Export(meter.FuncRefill)
		b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(context.Context, []uint64) {
			panic(errors.New("call depth exceeded"))
		}), []api.ValueType{api.ValueTypeI32}, nil).Export(meter.FuncTrap)
		b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(context.Context, []uint64) {}), // as many as are asked for
			[]api.ValueType{api.ValueTypeI32, api.ValueTypeI32, api.ValueTypeI32}, []api.ValueType{api.ValueTypeI32}).Export(meter.FuncGrowTable)
		if _, err := b.Instantiate(ctx); err != nil {
			return nil, err
		}
	}
	l.compiled, err = l.runtime.CompileModule(ctx, wasm)
	return l, err
}

// run runs the guest once, and returns the CPU time of its thread, which the
// machine's other work is not part of, and its output.
func (l *loaded) run(ctx context.Context) (time.Duration, string, error) {
	var stdout bytes.Buffer
	config := wazero.NewModuleConfig().WithName("").WithArgs(append([]string{"guest"}, l.args...)...).WithStdout(&stdout).WithStderr(&stdout).WithStartFunctions()
	if err := l.share.Acquire(ctx); err != nil {
		return 0, "", err
	}
	defer l.share.Release()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l.refiller.resumed = time.Now()
	before := threadTime()
	m, err := l.runtime.InstantiateModule(ctx, l.compiled, config)
	if err == nil {
		if depth, ok := m.ExportedGlobal(meter.ExportDepth).(api.MutableGlobal); ok {
			depth.Set(4 << 20)
		}
		_, err = m.ExportedFunction("_start").Call(ctx)
	}
	took := threadTime() - before
	if exit, ok := errors.AsType[*sys.ExitError](err); ok && exit.ExitCode() == 0 {
		err = nil
	}
	if err != nil {
		return 0, "", fmt.Errorf("%s: %w\n%s", l.name, err, stdout.String())
	}
	if m != nil {
		err = m.Close(ctx)
	}
	return took, stdout.String(), err
}

func (l *loaded) close(ctx context.Context) {
	_ = l.runtime.Close(ctx) // memory is all that it holds
	if l.share != nil {
		l.share.Leave()
	}
}

// threadTime is the CPU time of the calling thread.
func threadTime() time.Duration {
	const thread = 1 // RUSAGE_THREAD, which package syscall does not name
	var usage syscall.Rusage
	if err := syscall.Getrusage(thread, &usage); err != nil {
		panic(err) // the kernel knows it since 2.6.26
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// measureS9 compares, for each program, the best of several rounds. The
// variants take turns within a round, so that what slows the machine slows all.
func measureS9(p *harness.Program, s settings) (results []result, err error) {
	ctx := p.Context()
	list, err := guests(ctx, harness.Root(p))
	if err != nil {
		return nil, err
	}
	cores := scheduler.New(scheduler.Config{})
	kinds := variants()
	logs := make([]float64, len(kinds))
	list = choose(list, s.guests)
	if len(list) == 0 {
		return nil, fmt.Errorf("no guest of S9 is named %q", s.guests)
	}
	worst, slowest := 0.0, ""
	for _, g := range list {
		best, err := compare(ctx, g, kinds, cores, s.guestRounds)
		if err != nil {
			return results, err
		}
		r := result{what: g.name, against: fmt.Sprintf("%s of CPU %s", short(best[0]), kinds[0].name)}
		for i, v := range kinds[1:] {
			ratio := float64(best[i+1]) / float64(best[0])
			logs[i+1] += math.Log(ratio)
			if r.value != "" {
				r.value += ", "
			}
			r.value += fmt.Sprintf("%s %.2f ×", v.name, ratio)
			if v.metered && ratio > worst {
				worst, slowest = ratio, g.name
			}
		}
		results = append(results, r)
	}
	for i, v := range kinds[1:] {
		r := result{
			what:  fmt.Sprintf("%s, geometric mean of %d programs", v.name, len(list)),
			value: fmt.Sprintf("%.3f ×", math.Exp(logs[i+1]/float64(len(list)))),
		}
		if v.metered {
			r.value += fmt.Sprintf("; %.2f × at worst, %s", worst, slowest)
			r.against = "target 1.25 ×, stretch 1.1 ×"
		}
		results = append(results, r)
	}
	return results, nil
}

// compare returns the best time of each variant. All must print the same.
func compare(ctx context.Context, g guest, kinds []variant, cores *scheduler.Scheduler, rounds int) ([]time.Duration, error) {
	best := make([]time.Duration, len(kinds))
	var ready []*loaded
	defer func() {
		for _, l := range ready {
			l.close(ctx)
		}
	}()
	for _, v := range kinds {
		l, err := load(ctx, g, v, cores)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", g.name, v.name, err)
		}
		ready = append(ready, l)
	}
	want := ""
	for round := range max(1, rounds) {
		for i, l := range ready {
			if most := kinds[i].rounds; most > 0 && round >= most {
				continue
			}
			runtime.GC() // what the last one left is not this one's
			took, got, err := l.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", kinds[i].name, err)
			}
			if want == "" {
				want = got
			}
			if got != want {
				return nil, fmt.Errorf("%s, %s: printed %q, others %q", g.name, kinds[i].name, got, want)
			}
			if best[i] == 0 || took < best[i] {
				best[i] = took
			}
		}
	}
	return best, nil
}
