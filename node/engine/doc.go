// Package engine runs WebAssembly modules. It is the only package that knows
// wazero; its neighbours see modules, runs and exits.
//
// A guest gets WASI preview 1 with its arguments, its environment, its input,
// captured output, clocks, randomness and sleep, and the functions of package
// abi; nothing else of the host: no files, no sockets, no environment of the
// process. Every run is an instantiation of its own, on memory that no earlier
// run has touched.
//
// Guests are metered (package meter): they come by when a slice of fuel is used
// up, which is about every half millisecond of their time. There the engine ends
// them if they are to end, counts what they have used, and lets others have the
// core (package cpu). So no guest keeps the collector or the process waiting
// for longer than a slice, and many share few cores. A process that runs guests
// should have more Ps than cores given to guests ([runtime.GOMAXPROCS]), as
// each guest on a core holds one.
package engine
