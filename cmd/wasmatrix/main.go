// Command wasmatrix is the agent of a cluster that runs WebAssembly instances,
// and the client that speaks to one.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix/node/engine/compile"
)

func main() { os.Exit(realMain()) }

// realMain runs the command line and returns the exit code: 0 done, 1 the
// operation failed, 2 wrong usage or configuration.
func realMain() int {
	// Nothing of what follows is needed to compile, and a node waits for it.
	if len(os.Args) == 2 && os.Args[1] == compile.Verb {
		return compile.Main(os.Stdin, os.Stdout)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends a process that takes long to end by itself.
	context.AfterFunc(ctx, stop)
	cobra.EnableCommandSorting = false // those of a group are in the order of their use
	return newCLI(os.Stdin, os.Stdout, os.Stderr).run(ctx, os.Args[1:])
}
