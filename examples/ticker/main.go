// Ticker prints a line each second, for ever unless told how often.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	every := flag.Duration("every", time.Second, "time between lines")
	n := flag.Int("n", 0, "lines to print; 0 is no end")
	flag.Parse()
	if *every <= 0 {
		fmt.Fprintln(os.Stderr, "ticker: -every must be above 0")
		os.Exit(2)
	}
	started := time.Now()
	for tick := range time.Tick(*every) {
		*n--
		fmt.Printf("tick after %s\n", tick.Sub(started).Round(time.Millisecond))
		if *n == 0 {
			return
		}
	}
}
