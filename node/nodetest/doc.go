// Package nodetest has the guests that the tests of node and node/engine run:
// small modules written by hand, and a Go program that is built when first
// asked for.
//
// The modules are committed with their source. After a change run go generate,
// which needs wat2wasm of the WebAssembly Binary Toolkit (wabt).
package nodetest

//go:generate sh -c "for f in wasm/*.wat; do wat2wasm --debug-names ${DOLLAR}f -o ${DOLLAR}{f%.wat}.wasm || exit 1; done"
