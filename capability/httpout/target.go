package httpout

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
)

// target is where a request goes. Its URL is built anew from parts that were
// checked, and is what net/http is given.
type target struct {
	url  *url.URL
	host string // in the form of permissions: see [hostOf]
	port uint16
}

func invalid(field, format string, args ...any) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, format, args...).With(wasmatrix.DetailField, field)
}

// parseTarget reads the URL of a request. Errors are E1.
func parseTarget(raw string) (*target, error) {
	if len(raw) > abi.MaxURL {
		return nil, invalid("url", "the URL has %d bytes, at most %d are allowed", len(raw), abi.MaxURL)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, invalid("url", "not a URL")
	}
	return targetOf(u)
}

// redirected reads where a response of t leads to.
func (t *target) redirected(location string) (*target, error) {
	if len(location) > abi.MaxURL {
		return nil, invalid("url", "the URL has %d bytes, at most %d are allowed", len(location), abi.MaxURL)
	}
	u, err := t.url.Parse(location)
	if err != nil {
		return nil, invalid("url", "not a URL")
	}
	return targetOf(u)
}

func targetOf(u *url.URL) (*target, error) {
	t := &target{}
	switch u.Scheme {
	case "http":
		t.port = 80
	case "https":
		t.port = 443
	default:
		return nil, invalid("url", "the URL's scheme is neither http nor https")
	}
	if u.Opaque != "" || u.Host == "" {
		return nil, invalid("url", "the URL has no host")
	}
	if u.User != nil {
		return nil, invalid("url", "the URL has user information: send a header Authorization")
	}
	var err error
	if t.host, err = hostOf(u.Hostname(), strings.HasPrefix(u.Host, "[")); err != nil {
		return nil, err
	}
	authority := t.host
	if strings.Contains(authority, ":") {
		authority = "[" + authority + "]"
	}
	if s := u.Port(); s != "" {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 {
			return nil, invalid("url", "the URL's port is not from 1 to 65535")
		}
		if uint16(n) != t.port {
			authority += ":" + strconv.FormatUint(n, 10)
		}
		t.port = uint16(n)
	}
	t.url = &url.URL{
		Scheme: u.Scheme, Host: authority, Path: u.Path, RawPath: u.RawPath,
		RawQuery: escapeQuery(u.RawQuery), ForceQuery: u.ForceQuery,
	}
	return t, nil
}

// escapeQuery escapes what net/url leaves as it is and a request line must not
// have.
func escapeQuery(q string) string {
	var b strings.Builder
	for i := range len(q) {
		if c := q[i]; c <= ' ' || c >= 0x7f {
			const digits = "0123456789ABCDEF"
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// toASCII takes names as the look-up of UTS 46 does. It also folds the forms of
// digits and dots that look like those of an IP address into these.
var toASCII = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false))

var errHost = invalid("url", "the URL's host is neither a host name nor an IP address in its usual form")

// hostOf brings a host into the one form in which it is checked and used: a name
// in ASCII and lower case without final dot, or an IP address as net/netip writes
// it, without zone, and of IPv4 where it is mapped. Other ways to write numbers
// (127.1, 0x7f.1, 2130706433), which some resolvers understand, are errors.
func hostOf(s string, bracketed bool) (string, error) {
	if bracketed {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || !a.Is6() {
			return "", errHost
		}
		return a.Unmap().String(), nil
	}
	for i := range len(s) {
		if s[i] >= 0x80 {
			ascii, err := toASCII.ToASCII(s)
			if err != nil {
				return "", errHost
			}
			s = ascii
			break
		}
	}
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if !isName(s) {
		return "", errHost
	}
	if last := s[strings.LastIndexByte(s, '.')+1:]; isNumber(last) {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return "", errHost
		}
		return a.String(), nil
	}
	return s, nil
}

// isName reports whether s is labels with dots between. Underscores are not of
// host names, but of names that are in use.
func isName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// isNumber reports whether a name that ends in label is an IP address for those
// who follow the URL standard of WHATWG, or inet_aton: no domain ends so.
func isNumber(label string) bool {
	digits, hex := label, false
	if rest, ok := strings.CutPrefix(label, "0x"); ok {
		digits, hex = rest, true
	}
	for i := range len(digits) {
		c := digits[i]
		if (c < '0' || c > '9') && (!hex || c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// isAuthority reports whether a Host line names the host and port of t.
func (t *target) isAuthority(host string) bool {
	if strings.ContainsAny(host, "/?#@") {
		return false
	}
	other, err := parseTarget(t.url.Scheme + "://" + host)
	return err == nil && other.host == t.host && other.port == t.port
}

// sameOrigin reports whether what was meant for t may go to next: to the same
// scheme, host and port, or to the same host by https where it was http, both on
// their own ports.
func (t *target) sameOrigin(next *target) bool {
	if t.host != next.host {
		return false
	}
	if t.url.Scheme == next.url.Scheme {
		return t.port == next.port
	}
	return next.url.Scheme == "https" && t.port == 80 && next.port == 443
}
