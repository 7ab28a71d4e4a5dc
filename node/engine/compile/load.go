package compile

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/wasmatrix/wasmatrix"
)

// cost is what loading a module took.
type cost struct {
	time  time.Duration // of all processors, garbage collection included
	bytes uint64        // allocated in all, so at least what was in use at once
}

// load does what a node will do, in a runtime of its own whose cache is dir. The
// first time it compiles.
func load(ctx context.Context, dir string, wasm []byte) (c cost, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "the compiler failed: %v", r)
		}
	}()
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return c, wasmatrix.Errorf(wasmatrix.CodeStorage, "%w", err)
	}
	defer cache.Close(ctx)
	r := wazero.NewRuntimeWithConfig(ctx, RuntimeConfig().WithCompilationCache(cache))
	defer r.Close(ctx)

	timeBefore, bytesBefore := cpuTime(), allocated()
	compiled, err := r.CompileModule(experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0)), wasm)
	if err != nil {
		return c, blame(err)
	}
	c = cost{cpuTime() - timeBefore, allocated() - bytesBefore}
	return c, compiled.Close(ctx)
}

// allocated is how much the process has allocated since it began, in bytes.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// blame tells the failures of a disk from those of a module.
func blame(err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "%w", err)
	}
	return wasmatrix.Errorf(wasmatrix.CodeWasmRuntime, "%w", err)
}

// isOutOfMemory tells whether a text is about a lack of address space. These are
// the words of the system and of Go's runtime, also where a thread finds no room
// for its stack, and those of the race detector.
func isOutOfMemory(text string) bool {
	for _, words := range []string{
		syscall.ENOMEM.Error(), "out of memory", "failed to create new OS thread",
		"address space collisions for -race", "ThreadSanitizer failed to allocate",
	} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}
