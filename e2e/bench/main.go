// Command bench measures the figures of docs/benchmarks.md on this machine, with
// real processes on loopback, and prints each with what it was measured against.
//
//	go run . -bin ../../bin/wasmatrix            # all
//	go run . -bin ../../bin/wasmatrix -only S3   # one
//
// S3 compares with etcd in the same run; it needs the program etcd on PATH
// (Debian's package etcd-server) and says so when it is missing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/wasmatrix/wasmatrix/e2e/harness"
)

// figure is one row of the table.
type figure struct {
	id      string
	what    string
	measure func(*harness.Program, settings) ([]result, error)
}

// result is one measured line of a figure.
type result struct {
	what    string
	value   string
	against string // what it was measured against, or the target
}

// settings are the sizes of the runs.
type settings struct {
	bin      string
	rounds   int           // of S4 and S5
	duration time.Duration // of each load
	clients  int           // of S3
	logStore string

	instances int // of S7

	guests      string // of S9, comma-separated; all if empty
	guestRounds int
}

var figures = []figure{
	{"S1", "start to running, one instance", measureS1},
	{"S2", "sustained starts to running", measureS2},
	{"S3", "acknowledged control writes", measureS3},
	{"S4", "leader killed to next acknowledged write", measureS4},
	{"S5", "node killed to its instances running elsewhere", measureS5},
	{"S6", "crash to running again", measureS6},
	{"S7", "memory of idle instances", measureS7},
	{"S9", "metered guests against unmetered", measureS9},
	{"S11", "kv gets from guests", measureS11},
	{"messaging", "messages between guests", measureMessaging},
	{"S12", "memory of an idle server", measureS12},
}

func main() {
	var (
		s    settings
		only string
	)
	flag.StringVar(&s.bin, "bin", "", "the wasmatrix binary; built if empty")
	flag.StringVar(&only, "only", "", "comma-separated figures, such as S1,S4; all if empty")
	flag.IntVar(&s.rounds, "rounds", 20, "rounds of S4 and S5")
	flag.IntVar(&s.clients, "clients", 256, "clients of S3")
	flag.DurationVar(&s.duration, "duration", 10*time.Second, "length of each load")
	flag.StringVar(&s.logStore, "log-store", "boltdb", "boltdb or wal")
	flag.IntVar(&s.instances, "instances", 100_000, "idle instances of S7")
	flag.StringVar(&s.guests, "guests", "", "comma-separated programs of S9, such as \"C json,Go sort\"; all if empty")
	flag.IntVar(&s.guestRounds, "guest-rounds", 5, "rounds of S9, of which the best counts")
	flag.Parse()
	if s.bin != "" {
		abs, err := filepath.Abs(s.bin)
		if err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(2)
		}
		s.bin = abs
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	fmt.Printf("wasmatrix benchmarks: %s, %d cores, log store %s, %s\n\n", runtime.Version(), runtime.NumCPU(), s.logStore, time.Now().UTC().Format(time.DateOnly))
	fmt.Println("| | what | measured | against |")
	fmt.Println("|---|---|---|---|")
	failed := false
	for _, f := range figures {
		if only != "" && !slices.Contains(strings.Split(only, ","), f.id) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s: %s ...\n", f.id, f.what)
		err := harness.Run(ctx, os.Stderr, func(p *harness.Program) error {
			results, err := f.measure(p, s)
			for _, r := range results {
				fmt.Printf("| %s | %s | %s | %s |\n", f.id, r.what, r.value, r.against)
			}
			return err
		})
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", f.id, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}
