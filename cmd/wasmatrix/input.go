package main

import (
	"io"
	"os"

	"github.com/wasmatrix/wasmatrix"
)

// readInput reads the file that a flag names; "-" is what is piped into the
// command. More than most bytes, or none that can be read, are wrong usage. The
// result is never nil, so that what is empty is told from what is absent.
func (c *cli) readInput(flag, path string, most int) ([]byte, error) {
	from, name := c.in, "standard input"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, asUsage(about(flag, unreadable(path, err)))
		}
		defer f.Close()
		from, name = f, path
	}
	data, err := io.ReadAll(io.LimitReader(from, int64(most)+1))
	if err != nil {
		return nil, asUsage(about(flag, unreadable(name, err)))
	}
	if len(data) > most {
		return nil, usagef("%s: %s is larger than %s, which is the most that is allowed", flag, name, wasmatrix.FormatBytes(uint64(most)))
	}
	return data, nil
}
