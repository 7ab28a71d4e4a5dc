package meter_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/tetratelabs/wazero/api"
)

// v128 is the type of vectors, which the engine's public package does not name.
// They are passed as two values, the lower half first.
const v128 api.ValueType = 0x7b

// specValue is an argument or an expected result. A number is written as the
// decimal of its bits; floats may be classes of NaN; a vector is a list of its lanes.
type specValue struct {
	Type  string          `json:"type"`
	Lane  string          `json:"lane_type"`
	Value json.RawMessage `json:"value"`
}

// lanes splits a value into what is compared at once: a vector into its lanes.
func (v specValue) lanes() (kind string, lanes []string) {
	if v.Type != "v128" {
		var s string
		if len(v.Value) > 0 && json.Unmarshal(v.Value, &s) != nil {
			panic(fmt.Sprintf("value %s", v.Value))
		}
		return v.Type, []string{s}
	}
	if err := json.Unmarshal(v.Value, &lanes); err != nil {
		panic(err)
	}
	return v.Lane, lanes
}

// width is that of a type or lane, in bits.
func width(kind string) int {
	switch kind {
	case "i8":
		return 8
	case "i16":
		return 16
	case "i32", "f32":
		return 32
	default:
		return 64
	}
}

// bits of a number, as the engine passes it.
func specBits(kind, s string) uint64 {
	switch {
	case s == "null" || s == "":
		return 0
	case kind == "externref":
		// The engine takes 0 for null, so that all others are one more.
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			panic(err)
		}
		return n + 1
	case strings.HasPrefix(s, "-"):
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			panic(err)
		}
		return uint64(n) & (math.MaxUint64 >> (64 - width(kind)))
	default:
		n, err := strconv.ParseUint(s, 10, width(kind))
		if err != nil {
			panic(err)
		}
		return n
	}
}

// args are values as the engine takes them.
func specArgs(values []specValue) (args []uint64) {
	for _, v := range values {
		kind, lanes := v.lanes()
		if v.Type != "v128" {
			args = append(args, specBits(kind, lanes[0]))
			continue
		}
		var half [2]uint64
		for i, lane := range lanes {
			at := i * width(kind)
			half[at/64] |= specBits(kind, lane) << (at % 64)
		}
		args = append(args, half[:]...)
	}
	return args
}

// matches tells whether a number is the expected one, or of the expected class.
func specMatches(kind, want string, got uint64) bool {
	switch {
	case want == "nan:canonical" && kind == "f32":
		return got&0x7fffffff == 0x7fc00000
	case want == "nan:arithmetic" && kind == "f32":
		return got&0x7fc00000 == 0x7fc00000
	case want == "nan:canonical":
		return got&0x7fffffff_ffffffff == 0x7ff80000_00000000
	case want == "nan:arithmetic":
		return got&0x7ff80000_00000000 == 0x7ff80000_00000000
	case want == "" && strings.HasSuffix(kind, "ref"):
		return true // any reference
	default:
		return specBits(kind, want) == got
	}
}

// specEqual compares results with the expected ones.
func specEqual(want []specValue, got []uint64) bool {
	for _, v := range want {
		kind, lanes := v.lanes()
		if v.Type != "v128" {
			if len(got) == 0 {
				return false
			}
			n := got[0]
			if width(kind) == 32 && !strings.HasSuffix(kind, "ref") {
				n = uint64(uint32(n))
			}
			if !specMatches(kind, lanes[0], n) {
				return false
			}
			got = got[1:]
			continue
		}
		if len(got) < 2 {
			return false
		}
		for i, lane := range lanes {
			at, w := i*width(kind), width(kind)
			n := got[at/64] >> (at % 64)
			if w < 64 {
				n &= 1<<w - 1
			}
			if !specMatches(kind, lane, n) {
				return false
			}
		}
		got = got[2:]
	}
	return len(got) == 0
}

// sameValues compares the results of two engines bit by bit. References are
// addresses: only whether they are null is the same. NaNs, too, are the same to the
// bit: the rewritten program computes with the same instructions.
func sameValues(types []api.ValueType, a, b []uint64) bool {
	if len(a) != len(b) {
		return false
	}
	i := 0
	for _, t := range types {
		switch t {
		case v128:
			if a[i] != b[i] || a[i+1] != b[i+1] {
				return false
			}
			i++
		case api.ValueTypeI32, api.ValueTypeF32:
			if uint32(a[i]) != uint32(b[i]) {
				return false
			}
		case api.ValueTypeI64, api.ValueTypeF64, api.ValueTypeExternref:
			if a[i] != b[i] {
				return false
			}
		default:
			if (a[i] == 0) != (b[i] == 0) {
				return false
			}
		}
		i++
	}
	return i == len(a)
}
