package rpc

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// A call that was refused here and is made again must not be judged by what was
// said of it the first time.
func TestAnExchangeForgetsWhatWasRefused(t *testing.T) {
	client := httptest.NewRecorder()
	x := newExchange(client, httptest.NewRequest(http.MethodPost, "/s/p", nil))
	x.redirectable = func() bool { return true }
	x.failed(wasmatrix.Errorf(wasmatrix.CodeNotLeader, "not here"))
	x.Header().Set("X-First", "1")
	x.WriteHeader(http.StatusServiceUnavailable)
	if _, err := x.Write([]byte("not here")); err != nil || x.started || x.moved == nil {
		t.Fatalf("the refusal was not taken back: %v", err)
	}
	x.reset()
	// This time it fails before any interceptor: without its detail, which has to
	// be held and completed, although the first failure had one.
	x.WriteHeader(http.StatusUnsupportedMediaType)
	if _, err := x.Write([]byte("unsupported")); err != nil || x.held != http.StatusUnsupportedMediaType {
		t.Fatalf("a failure without detail was passed on: %v", err)
	}
	x.reset()
	if x.held != 0 || x.body.Len() != 0 || x.coded {
		t.Errorf("held %d, %q", x.held, x.body.String())
	}
	x.WriteHeader(http.StatusOK)
	if _, err := x.Write([]byte("done")); err != nil {
		t.Fatal(err)
	}
	x.finish()
	if h := client.Header(); client.Code != http.StatusOK || client.Body.String() != "done" || h.Get("X-First") != "" || h.Get(wire.HeaderCode) != "" {
		t.Errorf("the client got %d %q, %v", client.Code, client.Body, h)
	}
}
