// Command demo runs a cluster of three servers and two nodes on loopback with
// real guests, kills the leader and then a node while starts are coming in,
// and checks that nothing that was acknowledged is lost. It ends with exit code
// 1 if anything is not as it should be.
//
//	go run ./e2e/demo -bin bin/wasmatrix
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
)

func main() { os.Exit(realMain()) }

func realMain() int {
	bin := flag.String("bin", "", "the wasmatrix binary; built if empty")
	verbose := flag.Bool("v", false, "show the ends of the agents' logs on failure")
	flag.Parse()
	if *bin != "" {
		abs, err := filepath.Abs(*bin)
		if err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			return 2
		}
		*bin = abs
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()

	var log io.Writer = os.Stderr
	if !*verbose {
		log = io.Discard
	}
	err := harness.Run(ctx, log, func(p *harness.Program) error {
		return (&demo{tb: p, bin: *bin, began: time.Now()}).run(ctx)
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo failed: %v\n", err)
		return 1
	}
	fmt.Println("\ndemo passed")
	return 0
}
