package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// guest is one program of S9.
type guest struct {
	name string
	wasm []byte
	args []string
}

// gojqFilter is what the interpreter of S9 that nobody here wrote computes.
const gojqFilter = `[range(30000) | {key: (. * 7919 % 1009 | tostring), value: (. % 13)}] | group_by(.key)
	| map({(.[0].key): (map(.value) | add)}) | add | to_entries | sort_by(.value, .key) | map(.key + "=" + (.value | tostring)) | join(",") | length`

// guests are real programs of several kinds, each in C and in Go where that makes
// a difference: C's are small and kept as modules beside their sources, Go's are
// built here.
func guests(ctx context.Context, root string) ([]guest, error) {
	dir := filepath.Join(root, "node", "meter", "testdata", "bench")
	paths, err := filepath.Glob(filepath.Join(dir, "c", "*.wasm"))
	if err != nil {
		return nil, err
	}
	var list []guest
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		list = append(list, guest{"C " + strings.TrimSuffix(filepath.Base(path), ".wasm"), b, nil})
	}
	b, err := buildGuest(ctx, root, "./node/meter/testdata/bench/guest")
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{
		"nbody", "matrix", "text", "json", "regexp", "sha256", "crc32", "sort", "maps", "trees", "interpreter",
	} {
		list = append(list, guest{"Go " + kind, b, []string{kind}})
	}
	b, err = buildGuest(ctx, filepath.Join(root, "examples", "gojq"), "github.com/itchyny/gojq/cmd/gojq")
	if err != nil {
		return nil, err
	}
	return append(list, guest{"Go gojq", b, []string{"-n", gojqFilter}}), nil
}

// choose keeps the guests of a comma-separated list of names; all if it is empty.
func choose(list []guest, names string) []guest {
	if names == "" {
		return list
	}
	return slices.DeleteFunc(list, func(g guest) bool { return !slices.Contains(strings.Split(names, ","), g.name) })
}

// buildGuest builds a Go program for wasip1 from within a folder.
func buildGuest(ctx context.Context, dir, pkg string) ([]byte, error) {
	temp, err := os.MkdirTemp("", "guest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	out := filepath.Join(temp, "guest.wasm")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building %s: %w\n%s", pkg, err, text)
	}
	return os.ReadFile(out)
}
