package abi

// WASI is the import module of WASI preview 1, of which hosts provide what
// docs/abi.md says.
const WASI = "wasi_snapshot_preview1"

// Provides reports whether hosts provide functions of an import module. Which of
// them is a matter of the host's version.
func Provides(importModule string) bool { return importModule == Module || importModule == WASI }
