package httpout

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
)

func TestTargets(t *testing.T) {
	for _, c := range []struct{ in, host, out string }{
		{"http://example.com", "example.com", "http://example.com"},
		{"HTTP://EXAMPLE.com:80/A?B#c", "example.com", "http://example.com/A?B"},
		{"https://example.com:443/", "example.com", "https://example.com/"},
		{"http://example.com:443/", "example.com", "http://example.com:443/"},
		{"https://example.com.:8443/", "example.com", "https://example.com:8443/"},
		{"http://example.com:/x", "example.com", "http://example.com/x"},
		{"http://a_b.example/", "a_b.example", "http://a_b.example/"},
		{"http://r3---sn.example/", "r3---sn.example", "http://r3---sn.example/"},
		{"http://bücher.example/ü?q=ü", "xn--bcher-kva.example", "http://xn--bcher-kva.example/%C3%BC?q=%C3%BC"},
		{"http://BÜCHER。example/", "xn--bcher-kva.example", "http://xn--bcher-kva.example/"},
		{"http://127.0.0.1:8080/", "127.0.0.1", "http://127.0.0.1:8080/"},
		{"http://127.0.0.1./", "127.0.0.1", "http://127.0.0.1/"},
		{"http://①②⑦.⓪.⓪.①/", "127.0.0.1", "http://127.0.0.1/"},
		{"http://[::1]:80/", "::1", "http://[::1]/"},
		{"http://[0:0::0:1]:81/", "::1", "http://[::1]:81/"},
		{"http://[2606:4700:0:0::FF]/", "2606:4700::ff", "http://[2606:4700::ff]/"},
		{"http://[::ffff:127.0.0.1]/", "127.0.0.1", "http://127.0.0.1/"},
		{"http://[::ffff:7f00:1]/", "127.0.0.1", "http://127.0.0.1/"},
		{"http://e.com/a b?c d=\"", "e.com", "http://e.com/a%20b?c%20d=\""},
		{"http://e.com/%2e%2e/x", "e.com", "http://e.com/%2e%2e/x"},
		{"http://e.com?x", "e.com", "http://e.com?x"},
		{"http://0xyz.example/", "0xyz.example", "http://0xyz.example/"},
		{"http://1.2.3.4.example/", "1.2.3.4.example", "http://1.2.3.4.example/"},
	} {
		got, err := parseTarget(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if got.host != c.host || got.url.String() != c.out {
			t.Errorf("%s is %q, %s; not %q, %s", c.in, got.host, got.url, c.host, c.out)
		}
	}
}

// Forms of hosts that some resolvers take for addresses, and other URLs that
// say one thing to one reader and another to the next.
var badURLs = []string{
	"", "/", "//example.com/", "example.com", "example.com:80", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/",
	"http:", "http:/", "http://", "http:///x", "http:example.com", "http://:80/", "http://./", "http://../", "http://.../",
	"http://user@example.com/", "http://user:pass@example.com/", "http://@example.com/", "http://:@example.com/",
	"http://example.com:0/", "http://example.com:65536/", "http://example.com:-1/", "http://example.com:http/", "http://example.com:80:80/",
	"http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://0X7F.0.0.1/", "http://017700000001/", "http://0177.0.0.1/",
	"http://127.1/", "http://127.0.1/", "http://127.0.0.01/", "http://0127.0.0.1/", "http://127.0.0.0x1/", "http://127.0.0.1.1/", "http://1/", "http://0/", "http://0x/",
	"http://256.0.0.1/", "http://127.0.0.1../", "http://4294967296/", "http://1.2.3/", "http://foo.1/", "http://foo.0x1/", "http://foo.09/",
	"http://[::1%25lo]/", "http://[fe80::1%25eth0]/", "http://[127.0.0.1]/", "http://[::1", "http://::1/", "http://[]/", "http://[example.com]/", "http://[::1]x/",
	"http://exa mple.com/", "http://example.com\\@127.0.0.1/", "http://example.com%2f@127.0.0.1/", "http://127%2e0.0.1/", "http://%31/", "http://exam%70le.com/",
	"http://example.com\r\nX: y/", "http://example.com/\r\nX: y", "http://example.com/?a\nb", "http://example.com/\x00", "http://example.com\x00/",
	"http://-a.example/", "http://a-.example/", "http://a..example/", "http://a,b.example/", "http://*.example/", "http://" + strings.Repeat("a", 64) + ".example/",
	"http://" + strings.Repeat("a.", 127) + "example/", "http://\u00ad/", "http://\uff0f/", "http://xn--a.b\u00fc\u2488com/", "http://example.com/" + strings.Repeat("a", abi.MaxURL),
}

func TestURLsThatAreRefused(t *testing.T) {
	for _, s := range badURLs {
		if got, err := parseTarget(s); wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
			t.Errorf("%.80q: %v, %v", s, got, err)
		}
	}
}

func TestRedirectTargets(t *testing.T) {
	for _, c := range []struct {
		from, location, to string
		same               bool
	}{
		{"http://a.example/x/y", "z", "http://a.example/x/z", true},
		{"http://a.example/x/y", "/z?q", "http://a.example/z?q", true},
		{"http://a.example/x", "//b.example/", "http://b.example/", false},
		{"http://a.example/", "http://A.EXAMPLE:80/", "http://a.example/", true},
		{"http://a.example/", "https://a.example/", "https://a.example/", true},
		{"https://a.example/", "http://a.example/", "http://a.example/", false},
		{"http://a.example/", "https://a.example:8443/", "https://a.example:8443/", false},
		{"http://a.example:81/", "https://a.example/", "https://a.example/", false},
		{"http://a.example/", "http://a.example:81/", "http://a.example:81/", false},
		{"http://a.example/", "http://b.a.example/", "http://b.a.example/", false},
		{"http://a.example/", "http://[::1]/", "http://[::1]/", false},
		{"http://a.example/", "", "http://a.example/", true},
	} {
		from, err := parseTarget(c.from)
		if err != nil {
			t.Fatal(err)
		}
		to, err := from.redirected(c.location)
		if err != nil {
			t.Errorf("%s to %q: %v", c.from, c.location, err)
			continue
		}
		if to.url.String() != c.to || from.sameOrigin(to) != c.same {
			t.Errorf("%s to %q is %s, same origin %t", c.from, c.location, to.url, from.sameOrigin(to))
		}
	}
	from, _ := parseTarget("http://a.example/")
	for _, s := range badURLs {
		if u, err := url.Parse(s); err == nil && u.Host == "" && u.Scheme == "" {
			continue // relative
		}
		if strings.HasPrefix(s, "http:/") || strings.Contains(s, "://") {
			if to, err := from.redirected(s); err == nil && to.host != "a.example" && to.host != "example.com" {
				t.Errorf("%.80q leads to %s", s, to.url)
			}
		}
	}
}

// numeric reads a host as inet_aton does, which is what careless resolvers do
// with names.
func numeric(host string) (netip.Addr, bool) {
	var parts []uint64
	for s := range strings.SplitSeq(host, ".") {
		base, digits := uint64(10), s
		switch {
		case strings.HasPrefix(s, "0x"):
			base, digits = 16, s[2:]
		case strings.HasPrefix(s, "0"):
			base = 8
		}
		var n uint64
		for _, c := range digits {
			d := uint64(strings.IndexRune("0123456789abcdef", c))
			if d >= base || n > 1<<32 {
				return netip.Addr{}, false
			}
			n = n*base + d
		}
		parts = append(parts, n)
	}
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var n uint64
	for i, part := range parts {
		width := 8
		if i == len(parts)-1 {
			width = 8 * (4 - i)
		}
		if part >= 1<<width {
			return netip.Addr{}, false
		}
		n = n<<width | part
	}
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), true
}

// FuzzURL looks for a URL that passes and yet means a forbidden address to
// someone, or that is sent otherwise than it was checked.
func FuzzURL(f *testing.F) {
	for _, s := range badURLs {
		f.Add(s)
	}
	for _, s := range []string{"http://example.com/", "https://[2606:4700::1]:8443/a?b", "http://1.1.1.1/", "http://bücher.example/", "http://①.example/", "http://[::ffff:8.8.8.8]/"} {
		f.Add(s)
	}
	permits := newAddresses(nil).permits
	f.Fuzz(func(t *testing.T, s string) {
		to, err := parseTarget(s)
		if err != nil {
			wantCode(t, err, wasmatrix.CodeInvalidRequest)
			return
		}
		for i := range len(to.host) {
			if c := to.host[i]; c <= ' ' || c >= 0x7f || c >= 'A' && c <= 'Z' {
				t.Fatalf("%q: host %q", s, to.host)
			}
		}
		if a, err := netip.ParseAddr(to.host); err == nil {
			if a.String() != to.host || a.Is4In6() || a.Zone() != "" {
				t.Fatalf("%q: address %q is not in its one form", s, to.host)
			}
		} else if a, is := numeric(to.host); is {
			t.Fatalf("%q: host %q is %s to inet_aton (permitted: %t)", s, to.host, a, permits(a))
		}
		// What is sent means the same to who reads it again.
		sent := to.url.String()
		u, err := url.Parse(sent)
		if err != nil || u.Host != to.url.Host || u.User != nil {
			t.Fatalf("%q is sent as %q: %v", s, sent, err)
		}
		again, err := parseTarget(sent)
		if len(sent) <= abi.MaxURL && (err != nil || again.host != to.host || again.port != to.port || again.url.RequestURI() != to.url.RequestURI()) {
			t.Fatalf("%q is sent as %q, which is %v, %v", s, sent, again, err)
		}
		if line := to.url.RequestURI(); !strings.HasPrefix(line, "/") || strings.ContainsAny(line, " \r\n\t") {
			t.Fatalf("%q asks for %q", s, line)
		}
	})
}
