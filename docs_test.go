package wasmatrix_test

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

var (
	docTest    = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9_]*)`")
	docLink    = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	definition = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
)

// TestDocumentsPointAtWhatExists: the tests that documents name are there, and so
// are the files that they link to.
func TestDocumentsPointAtWhatExists(t *testing.T) {
	root := os.DirFS(".")
	tests := map[string]bool{}
	var docs []string
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules"):
			return fs.SkipDir // what tools have put there
		case strings.HasSuffix(name, "_test.go"):
			b, err := fs.ReadFile(root, name)
			if err != nil {
				return err
			}
			for _, m := range definition.FindAllSubmatch(b, -1) {
				tests[string(m[1])] = true
			}
		case strings.HasSuffix(name, ".md"):
			docs = append(docs, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) < 10 || len(tests) < 100 {
		t.Fatalf("found %d documents and %d tests", len(docs), len(tests))
	}
	for _, doc := range docs {
		b, err := fs.ReadFile(root, doc)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range bytes.Split(b, []byte("\n")) {
			for _, m := range docTest.FindAllSubmatch(line, -1) {
				if !tests[string(m[1])] {
					t.Errorf("%s:%d names %s, which is no test", doc, n+1, m[1])
				}
			}
			for _, m := range docLink.FindAllSubmatch(line, -1) {
				if _, err := fs.Stat(root, path.Join(path.Dir(doc), string(m[1]))); err != nil {
					t.Errorf("%s:%d links to %s: %v", doc, n+1, m[1], err)
				}
			}
		}
	}
}
