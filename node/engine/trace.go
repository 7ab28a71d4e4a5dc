package engine

import (
	"strconv"
	"strings"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/meter"
)

// added tells frames of what the meter has put into the module, which are no
// concern of its author.
func added(frame string) bool {
	return strings.HasPrefix(frame, meter.HostModule+".") || strings.HasPrefix(frame, ".refuel(") ||
		strings.HasPrefix(frame, ".refuel and check depth(")
}

// more is how wazero ends a trace of which it has left out the rest.
const more = "... maybe followed by omitted frames"

// frames reads a stack trace of wazero, and adds the lines of source to it.
func (s *shared) frames(trace string) []string {
	out, at, offsets := parseTrace(trace)
	imported := uint64(len(s.compiled.ImportedFunctions()))
	for i, frame := range out {
		out[i] = sourceIndex(frame, imported)
	}
	if len(offsets) > 0 {
		for i, where := range s.sourceLines().at(offsets) {
			out[at[i]] = wasmatrix.BoundText(out[at[i]]+where, wasmatrix.MaxCrashFrame)
		}
	}
	return out
}

// parseTrace reads a line for each frame, behind one tab, and behind two, where
// the module has debug information, the frame's place in the code: its offset, and
// by its index the frame that it is of.
func parseTrace(trace string) (out []string, at []int, offsets []uint32) {
	skip := false
	for line := range strings.SplitSeq(trace, "\n") {
		place := strings.HasPrefix(line, "\t\t")
		line = strings.TrimSpace(line)
		if !place {
			skip = line == "" || added(line)
		}
		switch {
		case skip:
		case line == more:
			return append(out, "(deeper frames are not shown)"), at, offsets
		case place && len(out) > 0:
			if offset, ok := codeOffset(line); ok {
				at, offsets = append(at, len(out)-1), append(offsets, offset)
			}
		case len(out) == wasmatrix.MaxDetailFrames:
			return out, at, offsets
		case !place:
			// Instances have no name, which leaves a point before the function's.
			out = append(out, wasmatrix.BoundText(strings.TrimPrefix(line, "."), wasmatrix.MaxCrashFrame))
		}
	}
	return out, at, offsets
}

// sourceIndex gives a function without a name, "$12()", the index that it has in
// the source.
func sourceIndex(frame string, imported uint64) string {
	name, rest, _ := strings.Cut(frame, "(")
	digits, ok := strings.CutPrefix(name, "$")
	if !ok {
		return frame
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n < imported {
		return frame
	}
	return "$" + strconv.FormatUint(n-meter.AddedImports, 10) + "(" + rest
}

// codeOffset reads "0x1f: ...".
func codeOffset(line string) (uint32, bool) {
	hex, _, ok := strings.Cut(line, ":")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 0, 32)
	return uint32(n), err == nil
}
