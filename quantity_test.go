package wasmatrix_test

import (
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

func TestParseBytes(t *testing.T) {
	for s, want := range map[string]uint64{
		"0": 0, "1": 1, "65536": 65536, "64KiB": 64 << 10, "64MiB": 64 << 20, "64 MiB": 64 << 20, "1.5GiB": 3 << 29,
		"2TiB": 2 << 40, "1kB": 1000, "1KB": 1000, "1.5GB": 1_500_000_000, "3MB": 3_000_000, "1TB": 1e12, "12B": 12, "1.9B": 1,
		"9007199254740993": 9007199254740993, "9223372036854775807": math.MaxInt64,
	} {
		if got, err := wasmatrix.ParseBytes(s); err != nil || got != want {
			t.Errorf("%q is %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", " ", "B", "MiB", "-1", "-1MiB", "1XB", "1mib", "64M", "nan", "inf", "InfMiB", "1e300", "0.5", "0.0001KiB",
		"9223372036854775808", "8388608TiB", "1 2", "--1", "1MiBB",
	} {
		if got, err := wasmatrix.ParseBytes(s); wasmatrix.CodeOf(err) != wasmatrix.CodeValidation {
			t.Errorf("%q is %d, %v", s, got, err)
		}
	}
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0B", 1: "1B", 1023: "1023B", 1024: "1KiB", 1536: "1.5KiB", 64 << 20: "64MiB", 1<<20 - 1: "1MiB",
		3 << 29: "1.5GiB", 1 << 40: "1TiB", 1 << 52: "4096TiB", 1100: "1.1KiB",
	} {
		if got := wasmatrix.FormatBytes(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestBytesAreReadAsTheyAreWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Max(math.MaxInt64).Draw(t, "bytes")
		if got, err := wasmatrix.ParseBytes(strconv.FormatUint(n, 10)); err != nil || got != n {
			t.Fatalf("%d is read as %d, %v", n, got, err)
		}
		// Half a tenth of at least one unit is at most a twentieth.
		n = rapid.Uint64Max(math.MaxInt64/2).Draw(t, "to round")
		got, err := wasmatrix.ParseBytes(wasmatrix.FormatBytes(n))
		if off := math.Abs(float64(got) - float64(n)); err != nil || off > float64(n)/20+1 {
			t.Fatalf("%d, written %s, is read as %d, %v", n, wasmatrix.FormatBytes(n), got, err)
		}
		// Whole units are exact.
		n = rapid.Uint64Range(1, 1023).Draw(t, "units") << (10 * rapid.IntRange(0, 4).Draw(t, "unit"))
		if got, err := wasmatrix.ParseBytes(wasmatrix.FormatBytes(n)); err != nil || got != n {
			t.Fatalf("%d, written %s, is read as %d, %v", n, wasmatrix.FormatBytes(n), got, err)
		}
	})
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"64MiB", "1.5 GB", "65536", "0x1p4", "-0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := wasmatrix.ParseBytes(s)
		if err == nil && n > math.MaxInt64 || err != nil && (n != 0 || wasmatrix.CodeOf(err) != wasmatrix.CodeValidation) {
			t.Errorf("%q is %d, %v", s, n, err)
		}
	})
}

func TestParseCPU(t *testing.T) {
	for s, want := range map[string]uint32{
		"0": 0, "500m": 500, "2": 2000, "0.5": 500, "1.5m": 2, "0.001": 1, "1m": 1, "4294967": 4294967000,
	} {
		if got, err := wasmatrix.ParseCPU(s); err != nil || got != want {
			t.Errorf("%q is %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "m", "-1", "-1m", "nan", "inf", "infm", "1mm", "1 m", "4294968", "1e99", "0.0001", "0.1m"} {
		if got, err := wasmatrix.ParseCPU(s); wasmatrix.CodeOf(err) != wasmatrix.CodeValidation {
			t.Errorf("%q is %d, %v", s, got, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint32().Draw(t, "millis")
		for _, s := range []string{strconv.FormatUint(uint64(n), 10) + "m", strconv.FormatFloat(float64(n)/1000, 'f', -1, 64)} {
			if got, err := wasmatrix.ParseCPU(s); err != nil || got != n {
				t.Fatalf("%q is %d, %v", s, got, err)
			}
		}
	})
}

func FuzzParseCPU(f *testing.F) {
	f.Add("500m")
	f.Add("0.25")
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := wasmatrix.ParseCPU(s); err != nil && (n != 0 || wasmatrix.CodeOf(err) != wasmatrix.CodeValidation) {
			t.Errorf("%q is %d, %v", s, n, err)
		}
	})
}
