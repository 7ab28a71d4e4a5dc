package config

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/wasmatrix/wasmatrix"
)

// FuzzDecode: no text panics; every problem has the code, the file and a line of
// the text; and what HCL itself accepts is not made unreadable by unfolding.
func FuzzDecode(f *testing.F) {
	if src, err := os.ReadFile(examplePath); err == nil {
		f.Add(string(src))
	}
	f.Add("ports { api = 7480  raft = 7481 }\nlog {\n level = \"info\"\n}")
	f.Add("node { labels = { a = \"${1 == 2 ? \"x\" : \"y\"}\" }  memory = 1e400 }")
	f.Add("name = <<EOT\na { b = 1 c = 2 }\nEOT\n")
	f.Add("a { b = 1 /* { */ c = 2 } } } {")
	f.Add("gossip { retry_join = [for x in [] : x] }")
	f.Add("lease { ttl = null }")
	f.Add("node { instances = 1e999999999 }\nports { api = 1e-999999999 }")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 64<<10 {
			return
		}
		c := Default()
		problems := c.decode("f.hcl", []byte(text))
		lines := strings.Count(text, "\n") + 1
		for _, p := range append(problems, append(c.checkValues(), c.checkTogether()...)...) {
			if p.Code != wasmatrix.CodeValidation {
				t.Errorf("code %s: %v", p.Code, p)
			}
			line, ok := p.Details["line"]
			if n, err := strconv.Atoi(line); ok && (err != nil || n < 1 || n > lines) {
				t.Errorf("line %q of %d: %v", line, lines, p)
			}
		}
		for _, p := range problems {
			if p.Details["file"] != "f.hcl" || p.Details["line"] == "" {
				t.Errorf("a problem without its place: %v", p)
			}
		}
		if _, diags := hclsyntax.ParseConfig([]byte(text), "", hcl.InitialPos); !diags.HasErrors() {
			unfolded, _ := unfoldBlocks([]byte(text))
			if _, diags := hclsyntax.ParseConfig(unfolded, "", hcl.InitialPos); diags.HasErrors() {
				t.Errorf("unfolding broke it: %v\n%s", diags, unfolded)
			}
		}
	})
}
