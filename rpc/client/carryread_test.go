package client

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/link"
)

// TestIdleLinksAreRead: also when callers have received for themselves, the end of a
// link that nobody uses any more is seen, so that the next call has another.
func TestIdleLinksAreRead(t *testing.T) {
	end := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		l, err := link.Accept(w)
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			for {
				m := new(api.CarryRequest)
				if l.Receive(m) != nil {
					return
				}
				l.SendNow(&api.CarryResponse{Call: m.GetCall(), End: true})
			}
		}()
		<-end
		l.Close()
	}))
	defer srv.Close()
	c := NewCarrier((&net.Dialer{}).DialContext, srv.Listener.Addr().String())
	defer c.Close()
	for range 10 {
		if _, _, err := c.KV().Get(t.Context(), &capability.Scope{}, "k"); err != nil {
			t.Fatal(err)
		}
	}
	over := c.stream.over
	close(end)
	select {
	case <-over:
	case <-time.After(20 * time.Second):
		t.Error("the end of the link was not seen")
	}
}
