package httpout

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
)

// Headers that tell the server on whose behalf a request is made, where the
// provider's configuration has send_identity. A server that remembers the highest
// epoch of each instance, and refuses lower ones, is never changed by an instance
// that was superseded. Guests cannot set them.
const (
	HeaderInstance = "Wasmatrix-Instance"
	HeaderEpoch    = "Wasmatrix-Epoch" // decimal
)

// hopByHop are the headers that are of a connection, not of a request (RFC 9110,
// 7.6.1, and what is in use besides), and those that net/http writes by itself.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
}

// header is a guest's header, checked.
type header struct {
	fields http.Header
	host   string // what a Host line said, "" without one
	length int64  // what Content-Length said, -1 without one
}

// readHeader checks a guest's header, and leaves out what a proxy would not pass
// on. Errors are E1.
func readHeader(all []capability.Field) (*header, error) {
	h := &header{fields: make(http.Header, len(all)), length: -1}
	size := 0
	for _, f := range all {
		value := strings.Trim(f.Value, " \t")
		switch size += fieldSize(f.Name, f.Value); {
		case size > abi.MaxHeader:
			return nil, invalid("header", "the header has more than %d bytes", abi.MaxHeader)
		case !httpguts.ValidHeaderFieldName(f.Name):
			return nil, invalid("header", "a name in the header is not a token")
		case !httpguts.ValidHeaderFieldValue(value):
			return nil, invalid("header", "the value of %s in the header has control characters", http.CanonicalHeaderKey(f.Name))
		}
		h.fields.Add(f.Name, value)
	}
	if hosts := h.fields["Host"]; len(hosts) > 0 {
		if h.host = hosts[0]; len(hosts) > 1 || h.host == "" {
			return nil, invalid("header", "more than one Host, or an empty one")
		}
	}
	trailers := slices.ContainsFunc(h.fields["Te"], func(v string) bool { return strings.EqualFold(v, "trailers") })
	removeHopByHop(h.fields)
	if trailers {
		h.fields.Set("Te", "trailers")
	}
	// Servers that turn names into variables know no difference between - and _.
	for name := range h.fields {
		if n := strings.ReplaceAll(name, "_", "-"); strings.EqualFold(n, HeaderInstance) || strings.EqualFold(n, HeaderEpoch) {
			delete(h.fields, name)
		}
	}
	delete(h.fields, "Host")
	if lengths := h.fields["Content-Length"]; len(lengths) > 0 {
		n, err := strconv.ParseUint(lengths[0], 10, 63)
		if err != nil || len(lengths) > 1 || lengths[0][0] == '+' {
			return nil, invalid("header", "Content-Length is not one number")
		}
		h.length = int64(n)
		delete(h.fields, "Content-Length")
	}
	if len(h.fields["User-Agent"]) == 0 {
		h.fields.Set("User-Agent", "wasmatrix")
	}
	return h, nil
}

func fieldSize(name, value string) int { return len(name) + len(": \n") + len(value) }

// removeHopByHop also removes what Connection names.
func removeHopByHop(h http.Header) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
	for name := range h {
		if strings.HasPrefix(name, "Proxy-") {
			delete(h, name)
		}
	}
}

// secret are parts of the names of headers that carry credentials.
var secret = []string{
	"authoriz", "authent", "auth-", "-auth", "cookie", "token", "secret", "password", "credential",
	"api-key", "apikey", "access-key", "session", "signature",
}

// removeCredentials is done before a request is sent to another origin than the
// one for which the guest made it.
func removeCredentials(h http.Header) {
	for name := range h {
		n := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		if slices.ContainsFunc(secret, func(part string) bool { return strings.Contains(n, part) }) {
			delete(h, name)
		}
	}
}

// removeContent is done where a redirect drops the body.
func removeContent(h http.Header) {
	for name := range h {
		if strings.HasPrefix(name, "Content-") {
			delete(h, name)
		}
	}
	delete(h, "Expect")
	delete(h, "Digest")
}

func identify(h http.Header, s *capability.Scope) {
	h.Set(HeaderInstance, string(s.Instance))
	h.Set(HeaderEpoch, strconv.FormatUint(s.Epoch, 10))
}

// writeHeader gives a response's header for the guest, in order of names.
func writeHeader(from http.Header) ([]capability.Field, error) {
	h := from.Clone()
	removeHopByHop(h)
	names := make([]string, 0, len(h))
	for name := range h {
		if httpguts.ValidHeaderFieldName(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var fields []capability.Field
	size := 0
	for _, name := range names {
		for _, v := range h[name] {
			v = strings.Map(printable, v)
			if size += fieldSize(name, v); size > abi.MaxHeader {
				return nil, errHeader
			}
			fields = append(fields, capability.Field{Name: name, Value: v})
		}
	}
	return fields, nil
}

// printable replaces what could end a line of a header for those who read it.
func printable(r rune) rune {
	if r < ' ' && r != '\t' || r == 0x7f {
		return ' '
	}
	return r
}

// checkMethod refuses methods that are no tokens, those that make a tunnel, and
// those that have a server repeat credentials.
func checkMethod(method string) error {
	switch {
	case len(method) > 64 || !httpguts.ValidHeaderFieldName(method):
		return invalid("method", "the method is not a token of 1 to 64 characters")
	case strings.EqualFold(method, http.MethodConnect), strings.EqualFold(method, http.MethodTrace), strings.EqualFold(method, "TRACK"):
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "method %s is not available to guests", method).With(wasmatrix.DetailField, "method")
	}
	return nil
}
