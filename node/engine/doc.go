// Package engine runs WebAssembly modules. It is the only package that knows
// wazero; its neighbours see modules, runs and exits.
//
// A guest gets WASI preview 1 with its arguments, its environment, captured
// output, clocks, randomness and sleep, and nothing else of the host: no files,
// no sockets, no environment of the process. Every run is an instantiation of
// its own, on memory that no earlier run has touched.
//
// Guests are interrupted at loop heads only, which is what wazero offers
// without rewriting the module: a guest that recurses without a loop runs until
// its stack is full.
package engine
