package engine

import (
	"debug/dwarf"
	"fmt"
	"path"
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

// at returns " file:line:column" of an offset in the metered code, or "". Debug
// information is the guest's own: whatever it says is only shown.
func (l *sourceLines) at(offset uint32) (where string) {
	if l.data == nil {
		return ""
	}
	defer func() {
		if recover() != nil { // package dwarf does not promise to bear every input
			where = ""
		}
	}()
	pc := uint64(l.debug.Original(offset))
	unit := l.unit(pc)
	if unit == nil {
		return ""
	}
	lines, err := l.data.LineReader(unit)
	if err != nil || lines == nil {
		return ""
	}
	// Entries of some languages are not in order (Zig), so that all are read.
	var best, entry dwarf.LineEntry
	found := false
	var last dwarf.LineEntry
	for range maxLineEntries {
		if lines.Next(&entry) != nil {
			break
		}
		if last.File != nil && !last.EndSequence && last.Address <= pc && pc < entry.Address && (!found || last.Address >= best.Address) {
			best, found = last, true
		}
		last = entry
	}
	if !found || best.File == nil {
		return ""
	}
	name := path.Base(strings.ReplaceAll(best.File.Name, `\`, "/"))
	if best.Column > 0 {
		return fmt.Sprintf(" %s:%d:%d", name, best.Line, best.Column)
	}
	return fmt.Sprintf(" %s:%d", name, best.Line)
}

// maxLineEntries bounds the time that a crafted line program may take.
const maxLineEntries = 4 << 20

// unit finds the compile unit that has an address.
func (l *sourceLines) unit(pc uint64) *dwarf.Entry {
	r := l.data.Reader()
	for {
		e, err := r.Next()
		if err != nil || e == nil {
			return nil
		}
		if e.Tag == dwarf.TagCompileUnit {
			ranges, err := l.data.Ranges(e)
			if err != nil {
				return nil
			}
			for _, rg := range ranges {
				if rg[0] <= pc && pc < rg[1] {
					return e
				}
			}
		}
		r.SkipChildren()
	}
}
