package compile

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/wasmatrix/wasmatrix/abi"
)

// features are what guests may use: WebAssembly 2.0, tail calls and extended
// constant expressions.
const features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst

// RuntimeConfig is that of the runtime that loads what this package compiled. It
// does not ask wazero to watch contexts: metered guests come by themselves.
func RuntimeConfig() wazero.RuntimeConfig {
	return wazero.NewRuntimeConfigCompiler().WithCoreFeatures(features)
}

// wasiFunctions are those of preview 1.
var wasiFunctions = set(
	"args_get", "args_sizes_get", "environ_get", "environ_sizes_get", "clock_res_get", "clock_time_get",
	"fd_advise", "fd_allocate", "fd_close", "fd_datasync", "fd_fdstat_get", "fd_fdstat_set_flags",
	"fd_fdstat_set_rights", "fd_filestat_get", "fd_filestat_set_size", "fd_filestat_set_times", "fd_pread",
	"fd_prestat_get", "fd_prestat_dir_name", "fd_pwrite", "fd_read", "fd_readdir", "fd_renumber", "fd_seek",
	"fd_sync", "fd_tell", "fd_write", "path_create_directory", "path_filestat_get", "path_filestat_set_times",
	"path_link", "path_open", "path_readlink", "path_remove_directory", "path_rename", "path_symlink",
	"path_unlink_file", "poll_oneoff", "proc_exit", "proc_raise", "sched_yield", "random_get", "sock_accept",
	"sock_recv", "sock_send", "sock_shutdown",
)

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// allowed tells which functions a guest may import.
func allowed(module, name string) bool {
	switch module {
	case abi.WASI:
		return wasiFunctions[name]
	case abi.Module:
		_, ok := abi.Functions[name]
		return ok
	default:
		return false
	}
}

// engine identifies what turns a metered module into native code.
type engine struct {
	dir  string // below which its files lie; wazero's version, architecture and system
	file string // of the empty module; wazero hashes its format and the processor's features
}

// probe asks wazero by what names it keeps native code, which only it knows, by
// having it compile a module of eight bytes below dir.
func probe(dir string) (e engine, err error) {
	defer func() {
		if r := recover(); r != nil { // where wazero cannot compile for this machine
			err = fmt.Errorf("the compiler does not run here: %v", r)
		}
	}()
	temp, err := os.MkdirTemp(dir, tempPrefix)
	if err != nil {
		return e, err
	}
	defer os.RemoveAll(temp)
	if _, err := load(context.Background(), temp, []byte("\x00asm\x01\x00\x00\x00")); err != nil {
		return e, err
	}
	path, err := codeFile(temp)
	if err != nil {
		return e, err
	}
	return engine{dir: filepath.Base(filepath.Dir(path)), file: filepath.Base(path)}, nil
}

// codeFile returns the path of the one file that wazero has written below dir.
func codeFile(dir string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "wazero-*", "*"))
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("the engine has written %d files of code, not one", len(found))
	}
	if err != nil {
		return "", err
	}
	return found[0], nil
}
