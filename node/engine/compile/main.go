package compile

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"time"

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
// its node. It changes limits and priority of the whole process, and closes the
// files that it has inherited beyond the first three.
func Main(in io.Reader, out io.Writer) int {
	isolate()
	dec := json.NewDecoder(in)
	var req request
	if err := dec.Decode(&req); err != nil {
		fmt.Fprintln(os.Stderr, "reading the request:", err)
		return 2
	}
	if err := limit(&req); err != nil {
		fmt.Fprintln(os.Stderr, "limiting the process:", err)
		return 2
	}
	go func() {
		_, _ = io.Copy(io.Discard, io.MultiReader(dec.Buffered(), in)) // its end is what counts
		os.Exit(3)
	}()
	go lowerLater(time.Duration(req.Favour))
	ans, err := compile(context.Background(), &req)
	if err != nil {
		e := wasmatrix.AsError(err)
		ans = &answer{Code: e.Code, Message: e.Message}
	}
	if err := json.NewEncoder(out).Encode(ans); err != nil {
		fmt.Fprintln(os.Stderr, "writing the answer:", err)
		return 2
	}
	return 0
}

// program names what of a program decides what it compiles a module to, as far
// as it knows that without compiling one.
func program() string {
	return fmt.Sprintf("format %d, meter %d, engine %s, features %#x", format, meter.Version, wazeroVersion(), uint64(features))
}

// wazeroVersion is the version that this program was built with, "" where it
// does not know.
func wazeroVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, dep := range info.Deps {
		if dep.Path == "github.com/tetratelabs/wazero" {
			return dep.Version + " " + dep.Sum
		}
	}
	return ""
}

// compile leaves the metered module, its native code and what its source lines
// are found by in the directory of the request.
func compile(ctx context.Context, req *request) (*answer, error) {
	// A file that has been replaced by another version of the program would
	// leave what the node does not know from what it should have.
	if own := program(); req.Program != own {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInternal, "the compiler is not of the node's version: %s, not %s", own, req.Program)
	}
	source, err := os.ReadFile(req.Source)
	if err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "%w", err)
	}
	out, err := meter.Rewrite(source, meter.Options{Limits: req.Limits, AllowImport: allowed})
	if err != nil {
		return nil, err
	}
	ans := &answer{Manifest: manifest{Kind: out.Kind, Imports: out.Imports, Tables: out.Tables}}
	m := &ans.Manifest
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
		return nil, err
	}
	code, err := codeFile(req.Dir)
	if err != nil {
		return nil, err
	}
	if m.Code, err = describe(code); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "%w", err)
	}
	return ans, rehearse(ctx, req, out.Wasm, code, ans)
}

// rehearse loads what has been compiled, as the node will, and refuses what
// would take it too much.
func rehearse(ctx context.Context, req *request, wasm []byte, code string, ans *answer) error {
	// An open file keeps its identity from being given to another that takes its place.
	f, err := os.Open(code)
	if err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "%w", err)
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "%w", err)
	}
	// What compiling has left is not to be collected at the cost of loading.
	runtime.GC()
	cost, err := load(ctx, req.Dir, wasm)
	if err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeOf(err), "loading it again: %s", wasmatrix.AsError(err).Message)
	}
	after, err := os.Stat(code)
	if err != nil || !os.SameFile(before, after) {
		return wasmatrix.Errorf(wasmatrix.CodeInternal, "the engine compiled the module again instead of loading it")
	}
	cost.bytes += uint64(ans.Manifest.Code.Bytes)
	ans.LoadTime, ans.LoadBytes = int64(cost.time), cost.bytes
	if limit := time.Duration(req.LoadTime); cost.time > limit {
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "loading the compiled module takes %s, and the limit is %s",
			cost.time.Round(time.Millisecond), limit)
	}
	if cost.bytes > req.LoadBytes {
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "loading the compiled module takes %s of memory, and the limit is %s",
			wasmatrix.FormatBytes(cost.bytes), wasmatrix.FormatBytes(req.LoadBytes))
	}
	return nil
}
