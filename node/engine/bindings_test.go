package engine

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix/abi"
)

// TestBindingsAgree: the contract's document and the bindings of all languages
// have every function of the engine, with its parameters.
func TestBindingsAgree(t *testing.T) {
	t.Parallel()
	want := map[string]string{}
	for _, f := range hostFunctions {
		want[f.name] = f.params
	}
	for _, b := range []struct {
		file     string
		function string // matches a declaration: its name, and its parameters
		param    func(s string) string
	}{
		{"../../docs/abi.md", "\\| `([a-z_]+) \\(([^)]*)\\)` \\|", func(s string) string {
			return kind(strings.HasSuffix(s, ": i64"))
		}},
		{"../../sdk/c/wasmatrix.h", `WMX_IMPORT\("([a-z_]+)"\)\s+int \w+\(([^)]*)\)`, func(s string) string {
			if s == "void" {
				return ""
			}
			return kind(!strings.Contains(s, "*") && (strings.HasPrefix(s, "wmx_i64 ") || strings.HasPrefix(s, "wmx_u64 ")))
		}},
		{"../../sdk/assemblyscript/assembly/host.ts", `export declare function ([a-z_]+)\(([^)]*)\): i32`, func(s string) string {
			return kind(strings.HasSuffix(s, ": i64") || strings.HasSuffix(s, ": u64"))
		}},
		{"../../sdk/go/internal/host/calls_wasip1.go", `go:wasmimport wasmatrix ([a-z_]+)\n//go:noescape\nfunc \w+\(([^)]*)\) int32`, nil},
	} {
		text, err := os.ReadFile(b.file)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, m := range regexp.MustCompile(b.function).FindAllStringSubmatch(string(text), -1) {
			var params string
			if b.param == nil {
				params = goParams(m[2])
			} else {
				for p := range strings.SplitSeq(m[2], ",") {
					if p = strings.TrimSpace(p); p != "" {
						params += b.param(p)
					}
				}
			}
			got[m[1]] = params
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if params, ok := got[name]; !ok || params != want[name] {
				t.Errorf("%s has %s with the parameters %q, and the engine %q", b.file, name, params, want[name])
			}
		}
		for name := range got {
			if _, ok := want[name]; !ok {
				t.Errorf("%s has %s, which the engine has not", b.file, name)
			}
		}
	}
}

func kind(long bool) string {
	if long {
		return "l"
	}
	return "i"
}

// goParams reads a list such as "id, key string, n int64": a string is an address
// and a length.
func goParams(list string) (params string) {
	fields := strings.Split(list, ",")
	typ := ""
	for _, f := range slices.Backward(fields) {
		words := strings.Fields(f)
		if len(words) == 2 {
			typ = words[1]
		}
		switch {
		case len(words) == 0:
		case typ == "string":
			params = "ii" + params
		default:
			params = kind(typ == "int64" || typ == "uint64") + params
		}
	}
	return params
}

// TestErrorsAreDocumented with their numbers, in the order of the contract.
func TestErrorsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/abi.md")
	if err != nil {
		t.Fatal(err)
	}
	var numbers []string
	for _, m := range regexp.MustCompile(`(?m)^\| [a-z ]+ \| (-\d+) \| `).FindAllStringSubmatch(string(text), -1) {
		numbers = append(numbers, m[1])
	}
	if want := strings.Fields("-1 -2 -3 -4 -5 -6 -7 -8 -9 -10 -11 -12"); !slices.Equal(numbers, want) || abi.ErrFailed != 12 {
		t.Errorf("the document has the errors %v", numbers)
	}
}
