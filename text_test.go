package wasmatrix_test

import (
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

func TestBoundText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "bytes"))
		n := rapid.IntRange(4, 120).Draw(t, "n")
		got := wasmatrix.BoundText(s, n)
		if len(got) > n || !utf8.ValidString(got) {
			t.Fatalf("BoundText(%q, %d) = %q", s, n, got)
		}
		if utf8.ValidString(s) && len(s) <= n && got != s {
			t.Fatalf("BoundText(%q, %d) = %q changed what fits", s, n, got)
		}
	})
}
