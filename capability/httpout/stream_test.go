package httpout

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
)

// pieces makes a body that is not the same anywhere.
func pieces(total, size int, f func([]byte)) hash.Hash {
	sum := sha256.New()
	p := make([]byte, size)
	for done := 0; done < total; done += size {
		for i := 0; i < len(p); i += 512 {
			p[i], p[i+1], p[i+2] = byte(done>>10), byte(done>>18), byte(i>>9)
		}
		sum.Write(p)
		f(p)
	}
	return sum
}

// TestLargeBodiesGoThroughInPieces sends 100 MiB there and back. Server and
// client are in this process, so the memory is that of both.
func TestLargeBodiesGoThroughInPieces(t *testing.T) {
	const total, most = 100 << 20, 24 << 20
	handler := func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		_, _ = io.Copy(sum, r.Body)
		w.Header().Set("X-Sum", fmt.Sprintf("%x", sum.Sum(nil)))
		pieces(total, 64<<10, func(p []byte) { _, _ = w.Write(p) })
	}
	plain := serve(t, handler)
	secure, roots := serveTLS(t, handler)
	p := open(t, map[string]string{"max_request": "200MiB", "max_response": "200MiB", "timeout": "10m"}, Options{RootCAs: roots})
	for _, url := range []string{plain.URL, secure.URL} {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		before, peak := m.HeapInuse, uint64(0)
		look := func() {
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse)
		}
		x, err := p.Open(t.Context(), scopeOf("a"), &capability.Request{Method: "PUT", URL: url})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		sum := pieces(total, 1<<20, func(p []byte) {
			if _, err := x.Write(p); err != nil {
				t.Fatal(err)
			}
			if n++; n%8 == 0 {
				look()
			}
		})
		r, err := x.Response()
		if err != nil {
			t.Fatal(err)
		}
		if got := (reply{Response: r}).get("X-Sum"); got != fmt.Sprintf("%x", sum.Sum(nil)) {
			t.Errorf("the server got another body: %s", got)
		}
		back, got := sha256.New(), 0
		buf := make([]byte, 256<<10)
		for {
			n, err := x.Read(buf)
			back.Write(buf[:n])
			if got += n; got%(8<<20) < n {
				look()
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if want := pieces(total, 64<<10, func([]byte) {}); got != total || string(back.Sum(nil)) != string(want.Sum(nil)) {
			t.Errorf("another body came, of %d bytes", got)
		}
		_ = x.Close()
		if peak > before+most {
			t.Errorf("%s: %d MiB of memory for it", url, (peak-before)>>20)
		}
	}
}

// What the other side does not take is not buffered.
func TestBackPressure(t *testing.T) {
	const most = 32 << 20 // what buffers of sockets may hold
	var served atomic.Int64
	over := make(chan struct{})
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			<-over // without reading
			return
		}
		p := make([]byte, 64<<10)
		for {
			n, err := w.Write(p)
			if err != nil {
				return
			}
			served.Add(int64(n))
		}
	}
	plain := serve(t, handler)
	secure, roots := serveTLS(t, handler)
	p := open(t, map[string]string{"max_request": "1TiB", "max_response": "1TiB", "timeout": "500ms"}, Options{RootCAs: roots})
	for _, url := range []string{plain.URL, secure.URL} {
		x, err := p.Open(t.Context(), scopeOf("a"), &capability.Request{Method: "PUT", URL: url})
		if err != nil {
			t.Fatal(err)
		}
		piece, sent := make([]byte, 64<<10), 0
		for err == nil {
			var n int
			n, err = x.Write(piece)
			sent += n
		}
		over <- struct{}{}
		wantCode(t, err, wasmatrix.CodeTimeout)
		if sent > most {
			t.Errorf("%s: %d MiB were taken that nobody read", url, sent>>20)
		}
		_ = x.Close()

		served.Store(0)
		x, err = p.Open(t.Context(), scopeOf("a"), &capability.Request{Method: "GET", URL: url})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.Response(); err != nil {
			t.Fatal(err)
		}
		<-x.(*exchange).ctx.Done()
		if n := served.Load(); n > most || n == 0 {
			t.Errorf("%s: %d MiB came that nobody read", url, n>>20)
		}
		_ = x.Close()
	}
}

// TestStream compares what comes out of a stream with what went in, for readers
// of any appetite.
func TestStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 50), 0, 20).Draw(t, "pieces")
		sizes := rapid.SliceOfN(rapid.IntRange(1, 40), 1, 10).Draw(t, "reads")
		retries := rapid.IntRange(0, 3).Draw(t, "attempts that read nothing")
		s := newStream()
		var want []byte
		for _, p := range in {
			want = append(want, p...)
		}
		got := make(chan []byte, 1)
		go func() {
			r, err := s.open()
			for range retries {
				_ = r.Close()
				r, err = s.open()
			}
			if err != nil {
				t.Errorf("an attempt is refused: %v", err)
			}
			var all []byte
			for i := 0; ; i++ {
				buf := make([]byte, sizes[i%len(sizes)])
				n, err := r.Read(buf)
				all = append(all, buf[:n]...)
				if err != nil {
					break
				}
			}
			got <- all
		}()
		for _, p := range in {
			if n, err := s.write(p); n != len(p) || err != nil {
				t.Fatalf("write: %d %v", n, err)
			}
		}
		s.finish()
		if all := <-got; string(all) != string(want) {
			t.Fatalf("%q became %q", want, all)
		}
		if _, err := s.open(); (err != nil) != (len(want) > 0) {
			t.Fatalf("an attempt after %d bytes: %v", len(want), err)
		}
	})
}

// A request may be tried again on another connection only where nothing of its
// body is gone.
func TestAStaleConnectionIsReplaced(t *testing.T) {
	s := serve(t, echo)
	p := open(t, nil, Options{})
	for range 20 {
		mustGet(t, p, s.URL)
		s.CloseClientConnections() // the client may or may not have noticed
		if _, err := do(t.Context(), p, scopeOf("a"), &capability.Request{Method: "GET", URL: s.URL}); err != nil {
			t.Fatal(err)
		}
	}
}
