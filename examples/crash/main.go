// Crash ends badly, in the way asked for.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

var ways = map[string]func(code int){
	"exit":  func(code int) { os.Exit(code) },
	"panic": func(int) { panic("crash: as asked") },
	"trap":  func(int) { trap() },
	"oom":   func(int) { exhaustMemory() },
	"spin":  func(int) { spin() },
}

func main() {
	after := flag.Duration("after", 0, "time to run before crashing")
	how := flag.String("how", "exit", "exit, panic, trap, oom or spin")
	code := flag.Int("code", 1, "exit code of -how exit")
	flag.Parse()
	crash, ok := ways[*how]
	if !ok {
		known := make([]string, 0, len(ways))
		for w := range ways {
			known = append(known, w)
		}
		slices.Sort(known)
		fmt.Fprintf(os.Stderr, "crash: no way %q: %s\n", *how, strings.Join(known, ", "))
		os.Exit(64)
	}
	fmt.Printf("will crash by %s in %s\n", *how, *after)
	time.Sleep(*after)
	crash(*code)
}

// held keeps the garbage collector from giving back what exhaustMemory took.
var held [][]byte

// exhaustMemory takes memory, and writes to each page of it, until there is none.
func exhaustMemory() {
	const page = 64 << 10
	for {
		block := make([]byte, 16*page)
		for i := 0; i < len(block); i += page {
			block[i] = 1
		}
		held = append(held, block)
	}
}

// spun keeps the loop of spin from being optimised away. It is odd and so never 0.
var spun uint64 = 1

// spin never yields: in a guest there is only one thread, and nothing preempts it.
func spin() {
	for spun != 0 {
		spun += 2
	}
}
