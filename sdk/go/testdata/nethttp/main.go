// Nethttp makes requests with net/http by the host.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/wasmatrix/wasmatrix/sdk/go/httpc/transport"
)

func main() {
	c := transport.New("web")
	body := strings.Repeat("0123456789", 20_000)
	// A pipe: what is sent is read from another goroutine, while it is written.
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, body)
		_ = w.Close()
	}()
	req, err := http.NewRequest(http.MethodPut, "http://host/path?q=1", r)
	if err != nil {
		fail(err)
	}
	req.Host = "virtual"
	req.Header.Add("X-Two", "1")
	req.Header.Add("X-Two", "2")
	resp, err := c.Do(req)
	if err != nil {
		fail("streaming", err)
	}
	all, err := io.ReadAll(resp.Body)
	if err != nil || string(all) != body || resp.StatusCode != 200 || resp.Header.Get("X-Echo") != "yes" {
		fail("response", resp.Status, resp.Header, len(all), err)
	}
	if err := resp.Body.Close(); err != nil {
		fail(err)
	}
	if resp, err = c.Post("http://host/", "text/plain", strings.NewReader("short")); err != nil {
		fail(err)
	}
	_ = resp.Body.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	req, err = http.NewRequestWithContext(ctx, http.MethodGet, "http://host/slow", nil)
	if err != nil {
		fail(err)
	}
	_, err = c.Do(req)
	if slow, ok := errors.AsType[net.Error](err); !ok || !slow.Timeout() || !errors.Is(err, context.DeadlineExceeded) {
		fail("slow", err)
	}
	fmt.Println("all is well")
}

func fail(v ...any) {
	fmt.Println(v...)
	os.Exit(1)
}
