package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const helpGolden = "testdata/help.golden"

// TestHelp compares the help texts of all commands with those reviewed last;
// -update writes them anew.
func TestHelp(t *testing.T) {
	var all bytes.Buffer
	walk(testCLI().rootCommand(), func(cmd *cobra.Command) {
		all.WriteString("=== " + cmd.CommandPath() + "\n")
		cmd.SetOut(&all)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		all.WriteString("\n")
		if !cmd.HasSubCommands() && cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
	})
	if *update {
		if err := os.WriteFile(helpGolden, all.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(helpGolden)
	if err != nil {
		t.Fatal(err)
	}
	if got := all.String(); got != string(want) {
		t.Errorf("the help texts changed; look at them, then run with -update:\n%s", firstDifference(got, string(want)))
	}
}

// TestExamplesAreRight normalises and parses every example of the help texts.
func TestExamplesAreRight(t *testing.T) {
	n := 0
	walk(testCLI().rootCommand(), func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Example) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), "|")
			line, _, _ = strings.Cut(line, " >")
			line, _, _ = strings.Cut(line, " 2>")
			line = strings.TrimSuffix(strings.TrimPrefix(line, "source <("), ")")
			words := strings.Fields(strings.ReplaceAll(line, "'", ""))
			if len(words) == 0 || words[0] != "wasmatrix" {
				continue
			}
			n++
			root := testCLI().rootCommand()
			args, err := normalize(root, words[1:])
			if err != nil {
				t.Errorf("%q: %v", line, err)
				continue
			}
			found, rest, err := root.Find(args)
			if err == nil {
				err = found.ParseFlags(rest)
			}
			if err == nil {
				err = found.ValidateArgs(found.Flags().Args())
			}
			if err != nil {
				t.Errorf("%q: %v", line, err)
			}
			if cmd.HasParent() && found.CommandPath() != cmd.CommandPath() && !cmd.HasSubCommands() {
				t.Errorf("the example %q of %s is one of %s", line, cmd.CommandPath(), found.CommandPath())
			}
		}
	})
	if n < 25 {
		t.Errorf("only %d examples were tried", n)
	}
}

func walk(cmd *cobra.Command, f func(*cobra.Command)) {
	if cmd.Hidden {
		return
	}
	f(cmd)
	for _, sub := range cmd.Commands() {
		walk(sub, f)
	}
}

func testCLI() *cli {
	cobra.EnableCommandSorting = false
	return newCLI(os.Stdin, os.Stdout, os.Stderr)
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return "got  " + g[i] + "\nwant " + w[i]
		}
	}
	return "one is longer than the other"
}
