package config

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const examplePath = "../../../config.hcl.example"

func example(t *testing.T) *Config {
	t.Helper()
	c, err := Load(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// depends lists the keys whose example is not their default: they have none, or
// it depends on the machine. The example marks them with a star.
var depends = []string{
	"name", "data_dir", "server.enabled", "server.bootstrap_expect", "node.enabled", "node.memory", "node.module_memory", "node.log_total", "node.labels",
	"node.start_parallelism", "node.compile.parallel", "gossip.retry_join",
}

// TestExampleHasEveryKeyWithItsDefault: the example sets every key there is (and
// it decodes, so it sets none that is not), to its default.
func TestExampleHasEveryKeyWithItsDefault(t *testing.T) {
	clearEnv(t)
	c := example(t)
	if err := c.Validate(); err != nil {
		t.Errorf("the example is refused: %v", err)
	}
	defaults := map[string]any{}
	for f := range Default().leaves() {
		defaults[f.key] = f.value.Interface()
	}
	for f := range c.leaves() {
		if c.sources[f.key].line == 0 {
			t.Errorf("the example lacks %s", f.key)
			continue
		}
		if slices.Contains(depends, f.key) {
			continue
		}
		if got := f.value.Interface(); !reflect.DeepEqual(got, defaults[f.key]) {
			t.Errorf("the example gives %s as %v, its default is %v", f.key, got, defaults[f.key])
		}
	}
}

var keyLine = regexp.MustCompile(`^\s*([a-z_]+)\s*=`)

// TestExampleExplainsEveryKey: a comment stands before each key, or behind it, or
// before the row of keys that it is in; and a star where the default depends.
func TestExampleExplainsEveryKey(t *testing.T) {
	clearEnv(t)
	c := example(t)
	src, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(src), "\n")
	for f := range c.leaves() {
		n := c.sources[f.key].line - 1
		if m := keyLine.FindStringSubmatch(lines[n]); m == nil || m[1] != f.name {
			t.Errorf("%s is said to be in line %d, which is %q", f.key, n+1, lines[n])
			continue
		}
		var comment strings.Builder
		if _, after, ok := strings.Cut(lines[n], "#"); ok {
			comment.WriteString(after)
		}
		for i := n - 1; i >= 0 && (keyLine.MatchString(lines[i]) || strings.HasPrefix(strings.TrimSpace(lines[i]), "#")); i-- {
			if !keyLine.MatchString(lines[i]) {
				comment.WriteString(lines[i])
			}
		}
		if len(strings.Trim(comment.String(), "# ")) < 10 {
			t.Errorf("%s is not explained", f.key)
		}
		if starred := strings.Contains(comment.String(), "# *"); starred != slices.Contains(depends, f.key) {
			t.Errorf("%s: starred is %v", f.key, starred)
		}
	}
}

// TestTimingSaysWhatLoweringCosts holds the example to that promise.
func TestTimingSaysWhatLoweringCosts(t *testing.T) {
	src, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"heartbeat", "election", "leader_lease", "ttl", "disk_stall", "stabilization", "trailing_logs"} {
		before, _, found := strings.Cut(string(src), "\n    "+key+" ")
		if !found {
			before, _, found = strings.Cut(string(src), "\n  "+key+" ")
		}
		_, comment, _ := cutLast(before, "\n\n")
		if !found || !strings.Contains(comment, "Lower") {
			t.Errorf("the comment of %s does not say what lowering costs: %q", key, comment)
		}
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
