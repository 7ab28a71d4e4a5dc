// Hello prints its arguments and its environment and ends.
package main

import (
	"fmt"
	"os"
	"slices"
)

func main() {
	fmt.Println("hello from a guest")
	for i, arg := range os.Args[1:] {
		fmt.Printf("argument %d: %s\n", i+1, arg)
	}
	for _, kv := range slices.Sorted(slices.Values(os.Environ())) {
		fmt.Println("environment:", kv)
	}
}
