package httpout

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// echo answers with how it sees the request.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Header().Set("X-Proto", r.Proto)
	w.Header().Set("X-Length", strconv.FormatInt(r.ContentLength, 10))
	w.Header().Set("X-Chunked", fmt.Sprint(slices.Contains(r.TransferEncoding, "chunked")))
	fmt.Fprintf(w, "%s %s %s %s", r.Method, r.Host, r.RequestURI, body)
}

func TestP10_HTTPCarriesRequestsOut(t *testing.T) {
	plain := serve(t, echo)
	secure, roots := serveTLS(t, echo)
	p := open(t, nil, Options{RootCAs: roots})
	for _, s := range []struct{ url, host, proto string }{
		{plain.URL, strings.TrimPrefix(plain.URL, "http://"), "HTTP/1.1"},
		{secure.URL, strings.TrimPrefix(secure.URL, "https://"), "HTTP/2.0"},
	} {
		t.Run(s.proto, func(t *testing.T) {
			for _, c := range []struct {
				method  string
				length  string
				body    []string
				want    string
				chunked string // of HTTP/1
				size    string
			}{
				{"GET", "", nil, "", "false", "0"},
				{"POST", "", nil, "", "false", "0"},
				{"POST", "0", nil, "", "false", "0"},
				{"PUT", "", []string{"ab", "", "c"}, "abc", "true", "-1"},
				{"PUT", "3", []string{"ab", "c"}, "abc", "false", "3"},
				{"PATCH", "3", []string{"abc"}, "abc", "false", "3"},
				{"DELETE", "", []string{"x"}, "x", "true", "-1"},
				{"REPORT", "", []string{"x"}, "x", "true", "-1"},
			} {
				r := &capability.Request{Method: c.method, URL: s.url + "/p%2Fq?a=b"}
				if c.length != "" {
					r.Header = []capability.Field{{Name: "content-length", Value: c.length}}
				}
				got, err := do(t.Context(), p, scopeOf("a"), r, c.body...)
				if err != nil {
					t.Fatal(err)
				}
				if want := c.method + " " + s.host + " /p%2Fq?a=b " + c.want; got.body != want || got.Status != 200 {
					t.Errorf("the server saw %d %q, not %q", got.Status, got.body, want)
				}
				if got.get("X-Proto") != s.proto || got.get("X-Length") != c.size {
					t.Errorf("%s %q: protocol %s, length %s; not %s, %s", c.method, c.length, got.get("X-Proto"), got.get("X-Length"), s.proto, c.size)
				}
				if s.proto == "HTTP/1.1" && got.get("X-Chunked") != c.chunked {
					t.Errorf("%s %q: chunked is %s", c.method, c.length, got.get("X-Chunked"))
				}
			}
		})
	}
}

func TestABodyMustBeAsLongAsItsContentLengthSays(t *testing.T) {
	complete := make(chan bool, 10)
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		complete <- err == nil
	})
	p := open(t, nil, Options{})
	length := func(v string) *capability.Request {
		return &capability.Request{Method: "POST", URL: s.URL, Header: []capability.Field{{Name: "Content-Length", Value: v}}}
	}
	_, err := do(t.Context(), p, scopeOf("a"), length("3"), "ab")
	wantCode(t, err, wasmatrix.CodeInvalidRequest)
	_, err = do(t.Context(), p, scopeOf("a"), length("3"), "ab", "cd")
	wantCode(t, err, wasmatrix.CodeInvalidRequest)
	_, err = do(t.Context(), p, scopeOf("a"), length("3"), "abcd")
	wantCode(t, err, wasmatrix.CodeInvalidRequest)
	_, err = do(t.Context(), p, scopeOf("a"), length("3"))
	wantCode(t, err, wasmatrix.CodeInvalidRequest)
	if _, err = do(t.Context(), p, scopeOf("a"), length("3"), "abc"); err != nil {
		t.Fatal(err)
	}
	p.Close()
	s.Close()
	close(complete)
	n := 0
	for ok := range complete {
		if ok {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the server saw %d complete bodies, not 1", n)
	}
	for _, v := range []string{"", "-1", "+1", "1,1", "0x1", "1 1", "99999999999999999999"} {
		_, err := do(t.Context(), p, scopeOf("a"), length(v))
		wantCode(t, err, wasmatrix.CodeInvalidRequest)
	}
	twice := length("1")
	twice.Header = append(twice.Header, twice.Header...)
	_, err = do(t.Context(), p, scopeOf("a"), twice)
	wantCode(t, err, wasmatrix.CodeInvalidRequest)
}

func TestSizesAreBounded(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		if r.URL.Query().Has("stream") {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
		}
		_, _ = w.Write(make([]byte, n))
	})
	p := open(t, map[string]string{"max_request": "10", "max_response": "10"}, Options{})
	post := &capability.Request{Method: "POST", URL: s.URL}
	if _, err := do(t.Context(), p, scopeOf("a"), post, "12345", "67890"); err != nil {
		t.Fatal(err)
	}
	_, err := do(t.Context(), p, scopeOf("a"), post, "12345", "678901")
	wantCode(t, err, wasmatrix.CodeResourceExhausted)
	_, err = do(t.Context(), p, scopeOf("a"), &capability.Request{Method: "POST", URL: s.URL, Header: []capability.Field{{Name: "Content-Length", Value: "11"}}})
	wantCode(t, err, wasmatrix.CodeResourceExhausted)

	for _, kind := range []string{"", "&stream"} {
		if got := mustGet(t, p, s.URL+"?n=10"+kind); len(got.body) != 10 {
			t.Errorf("%d bytes came", len(got.body))
		}
		got, err := get(t, p, s.URL+"?n=11"+kind)
		wantCode(t, err, wasmatrix.CodeResourceExhausted)
		if len(got.body) > 10 {
			t.Errorf("%d bytes came", len(got.body))
		}
	}
	// The length of what is not sent does not count.
	head, err := do(t.Context(), p, scopeOf("a"), &capability.Request{Method: "HEAD", URL: s.URL + "?n=11"})
	if err != nil || head.get("Content-Length") != "11" {
		t.Errorf("HEAD: %v %v", head, err)
	}
}

func TestTheHeaderOfAResponseIsBounded(t *testing.T) {
	large := func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		for range n {
			w.Header().Add("X", strings.Repeat("x", 1000))
		}
	}
	plain := serve(t, large)
	secure, roots := serveTLS(t, large)
	p := open(t, nil, Options{RootCAs: roots})
	for _, url := range []string{plain.URL, secure.URL} {
		if got := mustGet(t, p, url+"?n=60"); len(got.Header) < 60 {
			t.Errorf("%d fields came", len(got.Header))
		}
		_, err := get(t, p, url+"?n=70")
		wantCode(t, err, wasmatrix.CodeResourceExhausted)
	}
	_, err := get(t, p, plain.URL+"?n=10000")
	wantCode(t, err, wasmatrix.CodeResourceExhausted)
	// HTTP/2 may give up the connection without saying why.
	if _, err = get(t, p, secure.URL+"?n=10000"); err == nil {
		t.Error("a header of 10 MB came")
	}
}

func TestNothingIsDecompressed(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(make([]byte, 10<<20))
	_ = z.Close()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("X-Accepted", r.Header.Get("Accept-Encoding"))
		_, _ = w.Write(bomb.Bytes())
	})
	p := open(t, nil, Options{})
	got := mustGet(t, p, s.URL)
	if got.body != bomb.String() || got.get("Content-Encoding") != "gzip" || got.get("X-Accepted") != "" {
		t.Errorf("%d bytes came of %d, as %q; accepted was %q", len(got.body), bomb.Len(), got.get("Content-Encoding"), got.get("X-Accepted"))
	}
	if got = mustGet(t, p, s.URL, capability.Field{Name: "Accept-Encoding", Value: "gzip"}); got.body != bomb.String() || got.get("X-Accepted") != "gzip" {
		t.Error("what the guest accepts itself is decompressed")
	}
}

func TestAnEarlyAnswerEndsTheBody(t *testing.T) {
	s, roots := serveTLS(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	})
	p := open(t, map[string]string{"max_request": "1GiB"}, Options{RootCAs: roots})
	x, err := p.Open(t.Context(), scopeOf("a"), &capability.Request{Method: "POST", URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	for range 64 {
		if n, err := x.Write(make([]byte, 1<<20)); err != nil || n != 1<<20 {
			t.Fatal(n, err)
		}
	}
	r, err := x.Response()
	if err != nil || r.Status != http.StatusRequestEntityTooLarge {
		t.Fatal(r, err)
	}
	_, err = x.Write([]byte("x"))
	wantCode(t, err, wasmatrix.CodeInvalidRequest)
	again, err := x.Response()
	if err != nil || again != r {
		t.Error("another response the second time")
	}
}

func TestABodyMayWaitForTheServersConsent(t *testing.T) {
	read := make(chan int, 10)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusForbidden)
			return
		}
		body, _ := io.ReadAll(r.Body)
		read <- len(body)
	})
	p := open(t, nil, Options{})
	for path, status := range map[string]int{"/refuse": http.StatusForbidden, "/take": http.StatusOK} {
		r := &capability.Request{Method: "PUT", URL: s.URL + path, Header: []capability.Field{{Name: "Expect", Value: "100-continue"}}}
		got, err := do(t.Context(), p, scopeOf("a"), r, "some", "more")
		if err != nil || got.Status != status {
			t.Errorf("%s: %v %v", path, got, err)
		}
	}
	if len(read) != 1 || <-read != 8 {
		t.Error("the body was read otherwise")
	}
}
