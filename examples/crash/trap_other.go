//go:build !wasm

package main

// trap is a trap only in WebAssembly.
func trap() { panic("crash: there are no traps on this machine") }
