package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/wasmatrix/wasmatrix"
)

// decode takes over what one HCL file says and returns all that is wrong with it.
func (c *Config) decode(file string, src []byte) []*wasmatrix.Error {
	src, lineOf := unfoldBlocks(src)
	d := decoder{config: c, file: file, lineOf: lineOf}
	parsed, diags := hclsyntax.ParseConfig(src, file, hcl.InitialPos)
	if d.diagnose("", diags); len(d.problems) > 0 {
		return d.problems
	}
	d.block("", parsed.Body.(*hclsyntax.Body), reflect.ValueOf(c).Elem())
	return d.problems
}

type decoder struct {
	config   *Config
	file     string
	lineOf   func(int) int
	problems []*wasmatrix.Error
}

func (d *decoder) at(pos hcl.Pos) source { return source{file: d.file, line: d.lineOf(pos.Line)} }

func (d *decoder) fail(pos hcl.Pos, key, format string, args ...any) {
	d.problems = append(d.problems, d.at(pos).errorf(key, format, args...))
}

func (d *decoder) diagnose(key string, diags hcl.Diagnostics) {
	for _, diag := range diags {
		if diag.Severity != hcl.DiagError {
			continue
		}
		pos := hcl.InitialPos
		if diag.Subject != nil {
			pos = diag.Subject.Start
		}
		d.fail(pos, key, "%s: %s", diag.Summary, diag.Detail)
	}
}

// item is an attribute or a block, so that both can be handled in the order of
// the file.
type item struct {
	name  string
	pos   hcl.Pos
	attr  *hclsyntax.Attribute // or
	block *hclsyntax.Block
}

func (d *decoder) block(prefix string, body *hclsyntax.Body, into reflect.Value) {
	var items []item
	for name, a := range body.Attributes {
		items = append(items, item{name: name, pos: a.NameRange.Start, attr: a})
	}
	for _, b := range body.Blocks {
		items = append(items, item{name: b.Type, pos: b.TypeRange.Start, block: b})
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.pos.Byte, b.pos.Byte) })

	fields, names := map[string]field{}, []string(nil)
	for f := range children(prefix, into) {
		fields[f.name] = f
		names = append(names, f.name)
	}
	seen := map[string]int{}
	for _, it := range items {
		f, ok := fields[it.name]
		if !ok {
			key := it.name
			if prefix != "" {
				key = prefix + "." + key
			}
			d.fail(it.pos, key, "unknown key%s", suggest(it.name, names))
			continue
		}
		if line, twice := seen[it.name]; twice {
			d.fail(it.pos, f.key, "appears twice, first in line %d", line)
			continue
		}
		seen[it.name] = d.lineOf(it.pos.Line)
		d.item(f, it)
	}
}

func (d *decoder) item(f field, it item) {
	switch {
	case f.block && it.block == nil:
		d.fail(it.pos, f.key, "is a block: write %s { ... } without '='", f.name)
	case !f.block && it.block != nil:
		d.fail(it.pos, f.key, "is no block: write %s = ..., with %s", f.name, f.kind())
	case f.block && len(it.block.Labels) > 0:
		d.fail(it.pos, f.key, "the block takes no label")
	case f.block:
		d.block(f.key, it.block.Body, f.value)
	default:
		v, diags := it.attr.Expr.Value(nil)
		if diags.HasErrors() {
			d.diagnose(f.key, diags)
			return
		}
		if err := f.setCty(v); err != nil {
			d.fail(it.pos, f.key, "%s", err)
			return
		}
		d.config.setSource(f.key, d.at(it.pos))
	}
}

// suggest names the closest of names, if one is close.
func suggest(name string, names []string) string {
	best, distance := "", 3
	for _, n := range names {
		if dist := levenshtein.Distance(name, n, nil); dist < distance {
			best, distance = n, dist
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}
