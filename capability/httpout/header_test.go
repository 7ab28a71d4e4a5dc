package httpout

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
)

// fields reads "Name: value" lines.
func fields(lines ...string) []capability.Field {
	var all []capability.Field
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ":")
		all = append(all, capability.Field{Name: name, Value: value})
	}
	return all
}

func sorted(h http.Header) string {
	var lines []string
	for name, values := range h {
		for _, v := range values {
			lines = append(lines, name+": "+v)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestHeadersThatAGuestMaySend(t *testing.T) {
	for _, c := range []struct {
		in, out []string
	}{
		{[]string{"x-a: 1", "X-A:2 ", "accept:\t*/*"}, []string{"Accept: */*", "X-A: 1", "X-A: 2"}},
		{[]string{"Connection: close, X-Secret", "X-Secret: 1", "X-Other: 2"}, []string{"X-Other: 2"}},
		{[]string{"Connection: x-a", "connection: X-B,,", "X-A: 1", "x-b: 2"}, nil},
		{[]string{"Keep-Alive: 1", "Proxy-Authorization: x", "Proxy-Connection: x", "proxy-anything: x", "Trailer: X", "Transfer-Encoding: chunked", "Upgrade: websocket", "HTTP2-Settings: x"}, nil},
		{[]string{"TE: gzip"}, nil},
		{[]string{"TE: trailers", "Connection: te"}, []string{"Te: trailers"}},
		{[]string{"Wasmatrix-Instance: other", "wasmatrix-epoch: 9", "Wasmatrix_Epoch: 9", "WASMATRIX_INSTANCE: x"}, nil},
		{[]string{"Host: e.com", "X: "}, []string{"X: "}},
		{[]string{"Authorization: Bearer x", "Cookie: a=b", "X: ü"}, []string{"Authorization: Bearer x", "Cookie: a=b", "X: ü"}},
	} {
		h, err := readHeader(append(fields(c.in...), capability.Field{Name: "user-agent", Value: "guest"}))
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		want := append(slices.Clone(c.out), "User-Agent: guest")
		slices.Sort(want)
		if got := sorted(h.fields); got != strings.Join(want, "\n") {
			t.Errorf("%q becomes %q, not %q", c.in, got, want)
		}
	}
	h, err := readHeader(fields("Content-Length: 12", "Host: e.com"))
	if err != nil || h.length != 12 || h.host != "e.com" || sorted(h.fields) != "User-Agent: wasmatrix" {
		t.Error(h, err)
	}
}

func TestHeadersThatAreRefused(t *testing.T) {
	for _, f := range []capability.Field{
		{Name: "", Value: "x"}, {Name: "A B", Value: "x"}, {Name: "A\r\nB", Value: "x"}, {Name: "A:", Value: "x"}, {Name: ":authority", Value: "x"},
		{Name: "Ä", Value: "x"}, {Name: "A\x00", Value: "x"}, {Name: " A", Value: "x"}, {Name: "A ", Value: "x"},
		{Name: "A", Value: "x\r\nB: y"}, {Name: "A", Value: "x\nB: y"}, {Name: "A", Value: "x\rB: y"}, {Name: "A", Value: "x\x00"}, {Name: "A", Value: "\x7f"},
		{Name: "A", Value: "\r\n"}, {Name: "Host", Value: ""},
		{Name: "A", Value: strings.Repeat("x", abi.MaxHeader)}, {Name: strings.Repeat("x", abi.MaxHeader), Value: ""},
	} {
		if _, err := readHeader([]capability.Field{f}); wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
			t.Errorf("%.40q: %v", f, err)
		}
	}
	many := slices.Repeat([]capability.Field{{Name: "A", Value: "x"}}, abi.MaxHeader/len("A: x\n")+1)
	_, err := readHeader(many)
	wantCode(t, err, wasmatrix.CodeInvalidRequest)
	if _, err = readHeader(many[1:]); err != nil {
		t.Error(err)
	}
	_, err = readHeader(fields("Host: a", "Host: a"))
	wantCode(t, err, wasmatrix.CodeInvalidRequest)
}

func TestTheURLDecidesTheHost(t *testing.T) {
	s := serve(t, echo)
	p := open(t, nil, Options{})
	authority := strings.TrimPrefix(s.URL, "http://")
	if got := mustGet(t, p, s.URL, fields("Host: "+authority)...); !strings.Contains(got.body, authority) {
		t.Error(got.body)
	}
	for _, host := range []string{"other", "127.0.0.1", authority + "/", "user@" + authority, authority + "?", authority + "#", "127.0.0.1:1", authority + ",x"} {
		_, err := get(t, p, s.URL, capability.Field{Name: "host", Value: host})
		if wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
			t.Errorf("Host %q: %v", host, err)
		}
	}
}

func TestMethods(t *testing.T) {
	for _, m := range []string{"GET", "PATCH", "PROPFIND", "get", "X-!#$%&'*+.^_`|~"} {
		if err := checkMethod(m); err != nil {
			t.Error(m, err)
		}
	}
	for _, m := range []string{"", "CONNECT", "connect", "TRACE", "Trace", "TRACK", "G T", "GET\r\n", "GET / HTTP/1.1\r\nX:", "GÜT", strings.Repeat("A", 65)} {
		wantCode(t, checkMethod(m), wasmatrix.CodeInvalidRequest)
	}
}

func TestTheHeaderOfAResponse(t *testing.T) {
	in := make(http.Header)
	for _, f := range fields("X-B: 2", "X-A: 1", "X-A: 3", "Connection: X-Hop, close", "X-Hop: 1", "Keep-Alive: 5", "Proxy-Authenticate: x", "Transfer-Encoding: chunked", "Trailer: X", "Upgrade: h2c", "TE: x") {
		in.Add(f.Name, strings.TrimSpace(f.Value))
	}
	in["X-Raw"] = []string{"a\rb\x00c\td\x7f"}
	in["Not A Name"] = []string{"x"}
	before := sorted(in)
	got, err := writeHeader(in)
	if err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprint(got); s != "[{X-A 1} {X-A 3} {X-B 2} {X-Raw a b c\td }]" {
		t.Error(s)
	}
	if sorted(in) != before {
		t.Error("the response's own header was changed")
	}
}

func TestIdentityIsTold(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header[HeaderInstance], r.Header[HeaderEpoch], r.Header["Wasmatrix_epoch"])
	})
	forged := fields("wasmatrix-instance: forged", "Wasmatrix-Epoch: 99", "Wasmatrix_Epoch: 99", "Connection: Wasmatrix-Epoch")
	if got := mustGet(t, open(t, map[string]string{"send_identity": "true"}, Options{}), s.URL, forged...).body; got != "[a] [7] []" {
		t.Error(got)
	}
	if got := mustGet(t, open(t, nil, Options{}), s.URL, forged...).body; got != "[] [] []" {
		t.Error(got)
	}
}

// FuzzHeader looks for a header that passes and becomes other lines than it has
// fields, or one that guests may not set.
func FuzzHeader(f *testing.F) {
	f.Add("X-A", "1", "Connection", "X-A")
	f.Add("A", "x\r\nHost: y", "Transfer-Encoding", "chunked")
	f.Add("TE", "trailers", "Content-Length", "5")
	f.Add("Wasmatrix_Epoch", "1", "Proxy-X", " ")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		in := []capability.Field{{Name: name1, Value: value1}, {Name: name2, Value: value2}}
		h, err := readHeader(in)
		if err != nil {
			wantCode(t, err, wasmatrix.CodeInvalidRequest)
			return
		}
		var b bytes.Buffer
		if err := h.fields.Write(&b); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, values := range h.fields {
			n += len(values)
		}
		if lines := strings.Count(b.String(), "\n"); lines != n || n > 3 || strings.Count(b.String(), "\r") != n {
			t.Fatalf("%q: %d fields are %d lines: %q", in, n, lines, b.String())
		}
		read, err := textproto.NewReader(bufio.NewReader(strings.NewReader(b.String() + "\r\n"))).ReadMIMEHeader()
		if err != nil {
			t.Fatalf("%q: %q: %v", in, b.String(), err)
		}
		for name, values := range read {
			switch name {
			case "Host", "Connection", "Transfer-Encoding", "Content-Length", "Upgrade", "Trailer", "Keep-Alive", HeaderInstance, HeaderEpoch:
				t.Fatalf("%q: %s passed", in, name)
			case "Te":
				if len(values) != 1 || values[0] != "trailers" {
					t.Fatalf("%q: TE %q", in, values)
				}
			}
			if strings.HasPrefix(name, "Proxy-") || !httpguts.ValidHeaderFieldName(name) {
				t.Fatalf("%q: %q passed", in, name)
			}
		}
	})
}
