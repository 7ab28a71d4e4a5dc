package compile

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/meter"
)

// Names of the files that a child leaves in its directory.
const (
	moduleFile = "module.wasm"
	debugFile  = "debug.bin"
)

// Verb is the argument by which a program is told that it is the child: it calls
// [Main] then, before all else, and exits with what that returns.
const Verb = "compile-process"

// Main is the body of the child process. It reads one request from in, and goes
// on until it has written an answer to out or in has ended: so it never outlives
// its node. It changes limits and priority of the whole process.
func Main(in io.Reader, out io.Writer) int {
	lowerPriority()
	dec := json.NewDecoder(in)
	var req request
	if err := dec.Decode(&req); err != nil {
		fmt.Fprintln(os.Stderr, "compile: reading the request:", err)
		return 2
	}
	if err := limitMemory(req.Memory); err != nil {
		fmt.Fprintln(os.Stderr, "compile: limiting memory:", err)
		return 2
	}
	go func() {
		_, _ = io.Copy(io.Discard, io.MultiReader(dec.Buffered(), in)) // its end is what counts
		os.Exit(3)
	}()
	var ans answer
	m, err := compile(context.Background(), &req)
	if err != nil {
		e := wasmatrix.AsError(err)
		ans.Code, ans.Message = e.Code, e.Message
	} else {
		ans.Manifest = *m
	}
	if err := json.NewEncoder(out).Encode(&ans); err != nil {
		fmt.Fprintln(os.Stderr, "compile: writing the answer:", err)
		return 2
	}
	return 0
}

func compile(ctx context.Context, req *request) (*manifest, error) {
	source, err := os.ReadFile(req.Source)
	if err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "%w", err)
	}
	out, err := meter.Rewrite(source, meter.Options{Limits: req.Limits, Stack: req.Stack, AllowImport: allowed})
	if err != nil {
		return nil, err
	}
	m := &manifest{Kind: out.Kind, Imports: out.Imports, Tables: out.Tables}
	if m.Module, err = write(req.Dir, moduleFile, out.Wasm); err != nil {
		return nil, err
	}
	if out.Debug != nil {
		b, err := out.Debug.MarshalBinary()
		if err != nil {
			return nil, err
		}
		if m.Debug, err = write(req.Dir, debugFile, b); err != nil {
			return nil, err
		}
	}
	if _, err := load(ctx, req.Dir, out.Wasm); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "%w", err)
	}
	code, before, err := codeFile(req.Dir)
	if err != nil {
		return nil, err
	}

	took, err := load(ctx, req.Dir, out.Wasm)
	if err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "loading it again: %w", err)
	}
	_, after, err := codeFile(req.Dir)
	if err != nil {
		return nil, err
	}
	if !os.SameFile(before, after) {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "the engine compiled the module again instead of loading it")
	}
	if limit := time.Duration(req.Load); took > limit {
		return nil, wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "loading the compiled module takes %s, and at most %s are allowed",
			took.Round(time.Millisecond), limit)
	}
	if m.Code, err = describe(code); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "%w", err)
	}
	return m, nil
}

// load does what a node will do, in a runtime of its own, and returns the CPU
// time that it took. The first time it compiles.
func load(ctx context.Context, dir string, wasm []byte) (took time.Duration, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the compiler failed: %v", r)
		}
	}()
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return 0, wasmatrix.Errorf(wasmatrix.CodeStorage, "%w", err)
	}
	defer cache.Close(ctx)
	r := wazero.NewRuntimeWithConfig(ctx, RuntimeConfig().WithCompilationCache(cache))
	defer r.Close(ctx)
	began := cpuTime()
	c, err := r.CompileModule(experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0)), wasm)
	if err != nil {
		return 0, err
	}
	took = cpuTime() - began
	return took, c.Close(ctx)
}

// codeFile returns the one file that wazero has written below dir.
func codeFile(dir string) (string, os.FileInfo, error) {
	found, err := filepath.Glob(filepath.Join(dir, "wazero-*", "*"))
	if err != nil || len(found) != 1 {
		return "", nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "the engine has written %d files of code, not one", len(found))
	}
	info, err := os.Stat(found[0])
	return found[0], info, err
}
