package wasmatrix

import (
	"strings"
	"unicode/utf8"
)

// BoundText returns s as valid UTF-8 of at most n bytes, of which an ellipsis is
// the last where something was cut off. What guests say comes into records this
// way. n is at least 3.
func BoundText(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	const more = "…"
	s = s[:n-len(more)]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + more
}
