package httpout

import (
	"io"
	"net/http"
	"testing"

	"github.com/wasmatrix/wasmatrix/capability"
)

// BenchmarkGet measures a small GET over a connection that is open, by the
// provider and by net/http alone, to the same server.
func BenchmarkGet(b *testing.B) {
	s := serve(b, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	b.Run("provider", func(b *testing.B) {
		p := open(b, nil, Options{Alive: func() bool { return true }})
		scope, r := scopeOf("a", "http:domain:127.0.0.1"), &capability.Request{Method: "GET", URL: s.URL + "/path?query"}
		buf := make([]byte, 1024)
		b.ReportAllocs()
		for b.Loop() {
			x, err := p.Open(b.Context(), scope, r)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := x.Response(); err != nil {
				b.Fatal(err)
			}
			for err == nil {
				_, err = x.Read(buf)
			}
			_ = x.Close()
		}
	})
	b.Run("net/http", func(b *testing.B) {
		t := &http.Transport{DisableCompression: true}
		defer t.CloseIdleConnections()
		c := &http.Client{Transport: t}
		b.ReportAllocs()
		for b.Loop() {
			r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, s.URL+"/path?query", nil)
			if err != nil {
				b.Fatal(err)
			}
			answer, err := c.Do(r)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		}
	})
}
