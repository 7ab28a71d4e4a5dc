package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
)

// TestEveryLimitOfANodeHasBounds: 0, for which the rooms have a default of their
// own, and what is beyond reason are refused under the key that has them.
func TestEveryLimitOfANodeHasBounds(t *testing.T) {
	for _, key := range Keys() {
		if !strings.HasPrefix(key, "node.") || slices.Contains([]string{"node.enabled", "node.labels"}, key) {
			continue
		}
		c := Default()
		huge := "9223372036854775807"
		for f := range c.leaves() {
			switch {
			case f.key != key:
			case f.value.Type() == durationType:
				huge = "2000000h"
			case f.value.Kind() == reflect.Int:
				huge = "2147483647"
			}
		}
		for _, text := range []string{"0", huge} {
			if err := c.Set(key, text, "-flag"); err != nil {
				t.Errorf("%s = %s is not understood: %v", key, text, err)
				continue
			}
			problems := c.checkValues()
			if len(problems) != 1 || problems[0].Details[wasmatrix.DetailField] != key || !strings.HasPrefix(problems[0].Message, "-flag: "+key) {
				t.Errorf("%s = %s: problems %v", key, text, problems)
			}
		}
	}
}

// TestLimitsBeyond32Bits: limits of modules are counts, and some are products of counts.
func TestLimitsBeyond32Bits(t *testing.T) {
	clearEnv(t)
	path := writeFile(t, "a.hcl", "node {\n module_limits {\n  local_joins = 5000000000\n }\n}")
	t.Setenv("WASMATRIX_NODE_MODULE_LIMITS_BRANCH_VALUES", "6000000000")
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if l := c.Node.ModuleLimits; l.LocalJoins != 5_000_000_000 || l.BranchValues != 6_000_000_000 {
		t.Errorf("got %+v", l)
	}
}

// TestModuleSizesOfOneRole: a server's nodes are other agents', and so is a node's server.
func TestModuleSizesOfOneRole(t *testing.T) {
	for _, role := range []string{"server.enabled", "node.enabled"} {
		c := Default()
		c.DataDir = "/data"
		for key, text := range map[string]string{role: "true", "server.max_module": "512MiB", "node.module_limits.bytes": "1MiB"} {
			if err := c.Set(key, text, "-flag"); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Validate(); err != nil {
			t.Errorf("with %s alone: %v", role, err)
		}
	}
}
