package main

import (
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// takesNumbers is the annotation of a command whose arguments may be numbers.
const takesNumbers = "takes-numbers"

// shield is put before a negative number, which cobra takes for a flag: with it,
// it is a word, and flags may still follow.
const shield = " "

var negative = regexp.MustCompile(`^-(\.?[0-9]|Inf)`)

// isNegative reports whether arg is a number rather than a flag of the command.
func isNegative(cmd *cobra.Command, arg string) bool {
	return cmd.Annotations[takesNumbers] != "" && negative.MatchString(arg)
}

// bare takes the shields off.
func bare(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = a
		if n, ok := strings.CutPrefix(a, shield); ok && negative.MatchString(n) {
			out[i] = n
		}
	}
	return out
}
