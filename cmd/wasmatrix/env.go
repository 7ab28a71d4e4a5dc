package main

import (
	"os"
	"strings"
)

// parseEnv reads NAME=VALUE, or NAME alone for a variable of this process.
func parseEnv(vars []string) (map[string]string, error) {
	pairs := make([]string, 0, len(vars))
	for _, v := range vars {
		if !strings.Contains(v, "=") {
			value, ok := os.LookupEnv(v)
			if !ok {
				return nil, usagef("--env: %s is not set here; write %s=VALUE", v, v)
			}
			v += "=" + value
		}
		pairs = append(pairs, v)
	}
	return parsePairs("--env", pairs)
}
