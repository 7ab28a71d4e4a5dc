package meter

import (
	"encoding/binary"
	"slices"
	"sort"
	"strings"

	"github.com/wasmatrix/wasmatrix"
)

// Debug is what a host needs to find the source lines of a stack trace: the
// debug information of the source, and where its code has gone.
type Debug struct {
	Shifts   []Shift           // in order of New
	Sections map[string][]byte // the .debug_ sections of the source, by name
}

// Shift says that code at the offset New of the output comes from the offset Old
// of the source. It holds up to the next shift. Both are offsets from the start
// of the code section's content, as the addresses in DWARF are.
type Shift struct{ New, Old uint32 }

// Original returns where in the source the code at an offset of the output
// comes from. Code that was added counts as what it stands in front of.
func (d *Debug) Original(offset uint32) uint32 {
	i := sort.Search(len(d.Shifts), func(i int) bool { return d.Shifts[i].New > offset })
	if i == 0 {
		return offset
	}
	s := d.Shifts[i-1]
	old := s.Old + (offset - s.New)
	if i < len(d.Shifts) {
		old = min(old, max(d.Shifts[i].Old, s.Old))
	}
	return old
}

// MarshalBinary encodes d; equal values give equal bytes.
func (d *Debug) MarshalBinary() ([]byte, error) {
	out := binary.AppendUvarint(nil, uint64(len(d.Shifts)))
	var last Shift
	for _, s := range d.Shifts {
		out = binary.AppendUvarint(out, uint64(s.New-last.New))
		out = binary.AppendVarint(out, int64(s.Old)-int64(last.Old))
		last = s
	}
	names := make([]string, 0, len(d.Sections))
	for name := range d.Sections {
		names = append(names, name)
	}
	slices.Sort(names)
	out = binary.AppendUvarint(out, uint64(len(names)))
	for _, name := range names {
		for _, b := range [][]byte{[]byte(name), d.Sections[name]} {
			out = binary.AppendUvarint(out, uint64(len(b)))
			out = append(out, b...)
		}
	}
	return out, nil
}

// UnmarshalBinary decodes what MarshalBinary wrote. It does not keep data.
func (d *Debug) UnmarshalBinary(data []byte) error {
	broken := func() error {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "debug information of a module is damaged")
	}
	number := func() (uint64, bool) {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			return 0, false
		}
		data = data[n:]
		return v, true
	}
	n, ok := number()
	if !ok || n > uint64(len(data)) {
		return broken()
	}
	shifts := make([]Shift, 0, n)
	var last Shift
	for range n {
		delta, ok := number()
		if !ok {
			return broken()
		}
		old, width := binary.Varint(data)
		if width <= 0 {
			return broken()
		}
		data = data[width:]
		last = Shift{New: last.New + uint32(delta), Old: uint32(int64(last.Old) + old)}
		shifts = append(shifts, last)
	}
	count, ok := number()
	if !ok || count > uint64(len(data)) {
		return broken()
	}
	sections := make(map[string][]byte, count)
	for range count {
		var parts [2][]byte
		for i := range parts {
			l, ok := number()
			if !ok || l > uint64(len(data)) {
				return broken()
			}
			parts[i] = data[:l]
			data = data[l:]
		}
		sections[string(parts[0])] = slices.Clone(parts[1])
	}
	if len(data) > 0 {
		return broken()
	}
	d.Shifts, d.Sections = shifts, sections
	return nil
}

// customSection keeps names and debug information; all others go, as nothing reads them.
func (m *module) customSection(r *reader) error {
	at := r.pos
	name := r.name()
	if r.err != nil {
		return r.err
	}
	switch {
	case name == "name":
		if m.names != nil {
			return malformed(at, "second name section")
		}
		n, err := parseNames(r)
		if err != nil {
			return err
		}
		m.names = n
		return nil
	case strings.HasPrefix(name, ".debug_"):
		m.custom[name] = r.src[r.pos:r.end]
	}
	r.pos = r.end
	return nil
}

// hasLines tells whether the source has what lines are found by.
func (m *module) hasLines() bool {
	return len(m.custom[".debug_info"]) > 0 && len(m.custom[".debug_line"]) > 0 && len(m.custom[".debug_abbrev"]) > 0
}

// debug returns what was noted for stack traces, or nil.
func (e *emitter) debug() *Debug {
	if !e.lines {
		return nil
	}
	d := &Debug{Shifts: e.shifts, Sections: make(map[string][]byte, len(e.m.custom))}
	for name, b := range e.m.custom {
		d.Sections[name] = slices.Clone(b)
	}
	return d
}

// appendLines appends debug information that says of all code that it is from one line of one
// file. With it the engine prints the offset of each frame, from which
// [Debug.Original] and the source's own information give the lines: the engine
// reads what it needs of that anew for each module that it loads, and keeps it all.
func appendLines(out []byte, codeBytes uint32) []byte {
	u16 := func(b []byte, v uint16) []byte { return binary.LittleEndian.AppendUint16(b, v) }
	u32 := func(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }

	// One abbreviation: a compile unit with low_pc, high_pc and stmt_list.
	abbrev := []byte{
		1, 0x11, 0, // DW_TAG_compile_unit, no children
		0x11, 0x01, // DW_AT_low_pc, DW_FORM_addr
		0x12, 0x06, // DW_AT_high_pc, DW_FORM_data4
		0x10, 0x17, // DW_AT_stmt_list, DW_FORM_sec_offset
		0, 0, 0,
	}
	unit := u16(nil, 4)         // version of DWARF
	unit = u32(unit, 0)         // offset of the abbreviations
	unit = append(unit, 4, 1)   // bytes of an address; the abbreviation
	unit = u32(unit, 1)         // low_pc: 0 would be taken for code that the linker removed
	unit = u32(unit, codeBytes) // high_pc, from low_pc
	unit = u32(unit, 0)         // offset of the lines
	info := append(u32(nil, uint32(len(unit))), unit...)

	// The header of the line program, then a line at the begin and its end.
	program := []byte{
		1, 1, 1, // minimum instruction length, maximum operations, default is_stmt
		0xfb, 14, 13, // line base -5, line range, opcode base
		0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, // operands of the standard opcodes
		0,                  // no directories
		'w', 0, 0, 0, 0, 0, // one file: name, directory, time, length; the end
	}
	tail := u32([]byte{0, 5, 2}, 1) // DW_LNE_set_address
	tail = append(tail, 1)          // DW_LNS_copy
	tail = append(tail, 2)          // DW_LNS_advance_pc
	tail = appendU32(tail, codeBytes)
	tail = append(tail, 0, 1, 1) // DW_LNE_end_sequence
	line := u16(nil, 4)
	line = u32(line, uint32(len(program)))
	line = append(line, program...)
	line = append(line, tail...)
	line = append(u32(nil, uint32(len(line))), line...)

	for _, s := range []struct {
		name    string
		content []byte
	}{{".debug_abbrev", abbrev}, {".debug_info", info}, {".debug_line", line}} {
		out = appendSection(out, sectionCustom, append(appendName(nil, s.name), s.content...))
	}
	return out
}
