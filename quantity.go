package wasmatrix

import (
	"math"
	"strconv"
	"strings"
)

var byteUnits = []struct {
	suffix string
	size   float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"B", 1}, {"", 1},
}

// ParseBytes reads a size such as 64MiB, 1.5GB or 65536, below 2^63; a fraction
// of a byte is dropped, but does not make a size 0. Errors are E6.
func ParseBytes(s string) (uint64, error) {
	for _, u := range byteUnits {
		num, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		num = strings.TrimSpace(num)
		if n, err := strconv.ParseUint(num, 10, 63); err == nil && u.size == 1 {
			return n, nil // a float64 does not hold all of them
		}
		f, err := strconv.ParseFloat(num, 64)
		if err != nil || f < 0 || f*u.size >= math.MaxInt64 || f > 0 && f*u.size < 1 || math.IsNaN(f) {
			break
		}
		return uint64(f * u.size), nil
	}
	return 0, Errorf(CodeValidation, "%q is not a size such as 64MiB, 1.5GB or 65536", s)
}

// FormatBytes writes n with the largest binary unit that keeps it at or above
// one, to one decimal: 64MiB, 1.5GiB.
func FormatBytes(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	tenths := func(f float64) float64 { return math.Round(f*10) / 10 }
	f, u := float64(n), 0
	for tenths(f) >= 1024 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	return strconv.FormatFloat(tenths(f), 'f', -1, 64) + units[u]
}

// ParseCPU reads thousandths of a core ("500m") or cores ("2", "0.5") into
// thousandths, rounded, but not to 0. Errors are E6.
func ParseCPU(s string) (uint32, error) {
	scale := 1000.0
	num, milli := strings.CutSuffix(s, "m")
	if milli {
		scale = 1
	}
	f, err := strconv.ParseFloat(num, 64)
	if err != nil || f < 0 || math.IsNaN(f) || f*scale > math.MaxUint32 || f > 0 && math.Round(f*scale) == 0 {
		return 0, Errorf(CodeValidation, "%q is not a share of CPU such as 500m or 2", s)
	}
	return uint32(math.Round(f * scale)), nil
}
