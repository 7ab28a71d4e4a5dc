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

// traceParent has version, trace ID, parent ID, flags, and what later versions add.
var traceParent = regexp.MustCompile(`^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?$`)

// traceable reports whether a header has a trace that can be gone on with.
func traceable(h http.Header) bool {
	v := h[headerTraceParent]
	if len(v) != 1 {
		return false
	}
	m := traceParent.FindStringSubmatch(v[0])
	if m == nil {
		return false
	}
	version, trace, parent, more := m[1], m[2], m[3], m[4]
	return version != "ff" && (version != "00" || more == "") && strings.Trim(trace, "0") != "" && strings.Trim(parent, "0") != ""
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
