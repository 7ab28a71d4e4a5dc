// Package module keeps WebAssembly modules by the SHA-256 of their bytes.
//
// [Inspect] tells what a stream of bytes is before anything is done with it,
// [Store] keeps modules on a disk, and [Cache] is a Store that fetches what it
// misses. Servers and nodes share the package; package replica, below, is the
// part that only servers have.
package module
