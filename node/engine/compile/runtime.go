package compile

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/node/meter"
)

// features are what guests may use: WebAssembly 2.0, tail calls and extended
// constant expressions.
const features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst

// RuntimeConfig is that of the runtime that loads what this package compiled. It
// does not ask wazero to watch contexts: metered guests come by themselves.
func RuntimeConfig() wazero.RuntimeConfig {
	return wazero.NewRuntimeConfigCompiler().WithCoreFeatures(features)
}

// WASI is the module of the system calls that guests may import.
const WASI = "wasi_snapshot_preview1"

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

var abiFunctions = set(abi.InputLen, abi.InputRead, abi.OutputWrite)

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
	case WASI:
		return wasiFunctions[name]
	case abi.Module:
		return abiFunctions[name]
	case meter.HostModule:
		return false
	default:
		return false
	}
}

// codeDir returns the directory below dir in which wazero keeps native code; it
// makes it. wazero alone knows the name, which has its version.
func codeDir(dir string) (string, error) {
	probe, err := os.MkdirTemp(dir, tempPrefix)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(probe)
	if _, err := wazero.NewCompilationCacheWithDir(probe); err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(probe, "wazero-*-"+runtime.GOARCH+"-"+runtime.GOOS))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("the engine keeps its code where it was not looked for: %v", found)
	}
	code := filepath.Join(dir, filepath.Base(found[0]))
	return code, os.MkdirAll(code, 0o700)
}
