// Visits counts in kv: visit adds one and returns the count, count only returns it.
// The input names the key, "visits" if it is empty. See ../../README.md.
//
// It is a reactor. Instances that share a namespace share the count.
package main

// main is not called in a reactor.
func main() {}
