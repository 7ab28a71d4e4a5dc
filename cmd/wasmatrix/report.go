package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

// report writes an error, or each of several joined ones, to stderr, and
// returns the exit code.
func (c *cli) report(err error, args []string) int {
	exit := 1
	if _, ok := errors.AsType[*usageError](err); ok {
		exit = 2
	}
	// Where the command line is wrong, the flag may not have been read.
	asJSON := c.json() || !c.started && asksForJSON(args)
	for _, e := range flatten(err) {
		if asJSON {
			c.reportJSON(e)
		} else {
			c.reportText(e)
		}
	}
	if exit == 2 && !c.started && !asJSON {
		fmt.Fprintf(c.err, "Run \"wasmatrix help\", or any command with --help, for its usage.\n")
	}
	return exit
}

// flatten gives each of the errors that [errors.Join] joined a code.
func flatten(err error) []*wasmatrix.Error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*wasmatrix.Error
		for _, e := range joined.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
	return []*wasmatrix.Error{wasmatrix.AsError(err)}
}

func (c *cli) reportText(e *wasmatrix.Error) {
	fmt.Fprintf(c.err, "error: %s: %s\n", e.Code, printable(e.Message))
	for _, k := range slices.Sorted(maps.Keys(e.Details)) {
		fmt.Fprintf(c.err, "  %s: %s\n", printable(k), printable(e.Details[k]))
	}
}

func (c *cli) reportJSON(e *wasmatrix.Error) {
	t := e.Time
	if t.IsZero() {
		t = c.now()
	}
	b, err := marshal(&api.Error{Code: string(e.Code), Message: e.Message, Details: e.Details, Time: timestamppb.New(t)})
	if err != nil { // a string that is not UTF-8
		c.reportText(e)
		return
	}
	fmt.Fprintf(c.err, "%s\n", b)
}

// about names what an error is about in front of its message, and keeps its code.
func about(what string, err error) error {
	e := *wasmatrix.AsError(err)
	e.Message = what + ": " + e.Message
	return &e
}

// asksForJSON looks for -o json in a command line that may be wrong.
func asksForJSON(args []string) bool {
	for i, a := range args {
		switch a {
		case "--":
			return false
		case "-ojson", "-o=json", "--output=json":
			return true
		case "-o", "--output":
			if i+1 < len(args) && args[i+1] == outputJSON {
				return true
			}
		}
	}
	return false
}
