package httpout

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"regexp"
	"strings"
)

// Headers of W3C Trace Context (https://www.w3.org/TR/trace-context/). A guest that
// traces sets them itself.
const (
	headerTraceParent = "Traceparent"
	headerTraceState  = "Tracestate"
)

// traceParent is a traceparent that whoever gets it may go on with: of version 00 with
// nothing after the flags, of a later one perhaps with more.
var traceParent = regexp.MustCompile(`^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}|(0[1-9a-f]|[1-9a-e][0-9a-f]|f[0-9a-e])-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?)$`)

// traceable reports whether a header has a trace that can be gone on with.
func traceable(h http.Header) bool {
	v := h[headerTraceParent]
	if len(v) != 1 || !traceParent.MatchString(v[0]) {
		return false
	}
	parts := strings.Split(v[0], "-")
	return strings.Trim(parts[1], "0") != "" && strings.Trim(parts[2], "0") != ""
}

// beginTrace gives a request that has no trace the beginning of one, and returns its
// ID; that of a guest stays, and "" is returned. The flag says that what follows is to
// be recorded.
func beginTrace(h http.Header) (id string) {
	if traceable(h) {
		return ""
	}
	var b [16 + 8]byte
	_, _ = rand.Read(b[:]) // never fails, and never gives zeros alone that anybody will see
	id = hex.EncodeToString(b[:16])
	h.Set(headerTraceParent, "00-"+id+"-"+hex.EncodeToString(b[16:])+"-01")
	delete(h, headerTraceState) // belongs to a traceparent
	return id
}
