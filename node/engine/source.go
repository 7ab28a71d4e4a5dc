package engine

import (
	"debug/dwarf"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/wasmatrix/wasmatrix/node/meter"
)

// sourceLines finds the lines of source of one module. It is made when a guest
// has crashed, and not kept. A nil one finds nothing.
type sourceLines struct {
	debug *meter.Debug
	data  *dwarf.Data
}

// sourceLines reads the module's debug information, or returns what finds nothing.
func (s *shared) sourceLines() *sourceLines {
	none := &sourceLines{}
	if s.debug == nil {
		return none
	}
	d, err := s.debug()
	if err != nil {
		s.e.log.Warn("no source lines in a stack trace", "module", s.digest.Short(), "error", err)
		return none
	}
	sec := func(name string) []byte { return d.Sections[".debug_"+name] }
	data, err := dwarf.New(sec("abbrev"), nil, nil, sec("info"), sec("line"), nil, sec("ranges"), sec("str"))
	if err != nil {
		s.e.log.Debug("the debug information of a module cannot be read", "module", s.digest.Short(), "error", err)
		return none
	}
	for _, name := range []string{"addr", "line_str", "str_offsets", "rnglists"} { // of DWARF 5
		if b := sec(name); b != nil {
			if data.AddSection(".debug_"+name, b) != nil {
				return none
			}
		}
	}
	return &sourceLines{debug: d, data: data}
}

const (
	// maxUnits, maxRanges and maxLineEntries bound the time that crafted debug
	// information may take, all frames of a trace together.
	maxUnits       = 100_000
	maxRanges      = 1_000_000
	maxLineEntries = 1_000_000
)

// at returns " file:line:column" for each of some offsets in the metered code, or
// "". Debug information is the guest's own: whatever it says is only shown.
func (l *sourceLines) at(offsets []uint32) (where []string) {
	where = make([]string, len(offsets))
	if l.data == nil {
		return where
	}
	defer func() { _ = recover() }() // package dwarf does not promise to bear every input
	pcs := make([]uint64, len(offsets))
	for i, o := range offsets {
		pcs[i] = uint64(l.debug.Original(o))
	}
	left := maxLineEntries
	for unit, inside := range l.units(pcs) {
		lines, err := l.data.LineReader(unit)
		if err != nil || lines == nil {
			continue
		}
		for i, e := range nearest(lines, pcs, inside, &left) {
			where[i] = place(e)
		}
	}
	return where
}

// units yields the compile units that have some of the addresses, and which of
// them, by their index.
func (l *sourceLines) units(pcs []uint64) iter.Seq2[*dwarf.Entry, []int] {
	return func(yield func(*dwarf.Entry, []int) bool) {
		r, ranges := l.data.Reader(), 0
		for range maxUnits {
			e, err := r.Next()
			if err != nil || e == nil || ranges > maxRanges {
				return
			}
			r.SkipChildren()
			if e.Tag != dwarf.TagCompileUnit {
				continue
			}
			all, err := l.data.Ranges(e)
			if err != nil {
				continue
			}
			ranges += len(all)
			var inside []int
			for i, pc := range pcs {
				if slices.ContainsFunc(all, func(r [2]uint64) bool { return r[0] <= pc && pc < r[1] }) {
					inside = append(inside, i)
				}
			}
			if inside != nil && !yield(e, inside) {
				return
			}
		}
	}
}

// nearest finds the entries that addresses belong to, in one pass over at most
// left entries. Those of some languages are not in order (Zig), so that all are read.
func nearest(lines *dwarf.LineReader, pcs []uint64, which []int, left *int) map[int]dwarf.LineEntry {
	best := make(map[int]dwarf.LineEntry, len(which))
	var last, entry dwarf.LineEntry
	for ; *left > 0 && lines.Next(&entry) == nil; *left-- {
		if last.File != nil && !last.EndSequence {
			for _, i := range which {
				if b, found := best[i]; last.Address <= pcs[i] && pcs[i] < entry.Address && (!found || last.Address >= b.Address) {
					best[i] = last
				}
			}
		}
		last = entry
	}
	return best
}

func place(e dwarf.LineEntry) string {
	name := path.Base(strings.ReplaceAll(e.File.Name, `\`, "/"))
	if e.Column > 0 {
		return fmt.Sprintf(" %s:%d:%d", name, e.Line, e.Column)
	}
	return fmt.Sprintf(" %s:%d", name, e.Line)
}
