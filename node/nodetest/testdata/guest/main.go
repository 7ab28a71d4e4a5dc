// Command guest does what its first argument says. It is built for wasip1 by
// the tests.
package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"time"
)

func main() {
	verb := "nothing"
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	switch verb {
	case "nothing":
	case "exit":
		code, err := strconv.Atoi(os.Args[2])
		if err != nil {
			panic(err)
		}
		os.Exit(code)
	case "panic":
		panic("on purpose")
	case "world": // all that the guest can see of the world
		fmt.Printf("args %q\n", os.Args)
		env := os.Environ()
		slices.Sort(env)
		fmt.Printf("env %q\n", env)
		fmt.Fprintln(os.Stderr, "to stderr")
		for _, path := range []string{"/", ".", "/etc/passwd", "/tmp"} {
			_, err := os.ReadFile(path)
			_, derr := os.ReadDir(path)
			werr := os.WriteFile(path+"/x", nil, 0o600)
			fmt.Println("files", err != nil && derr != nil && werr != nil)
		}
		_, err := net.Dial("tcp", "127.0.0.1:80")
		fmt.Println("dial refused", err != nil)
		fmt.Println("year", time.Now().Year() > 2020)
	case "sleep":
		d, err := time.ParseDuration(os.Args[2])
		if err != nil {
			panic(err)
		}
		began := time.Now()
		time.Sleep(d)
		fmt.Println("slept", time.Since(began) >= d)
	case "spin":
		fmt.Println("spinning")
		for n := 0; ; n++ {
			if n < 0 {
				return
			}
		}
	case "alloc":
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			all = append(all, b)
		}
	case "serve": // stays, speaking now and then
		for n := 0; ; n++ {
			fmt.Println("tick", n)
			time.Sleep(10 * time.Millisecond)
		}
	default:
		fmt.Fprintln(os.Stderr, "unknown verb", verb)
		os.Exit(64)
	}
}
