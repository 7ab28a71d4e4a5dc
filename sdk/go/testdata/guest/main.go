// Guest uses all of the SDK but for net/http, and says what is not as it should be.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	wasmatrix "github.com/wasmatrix/wasmatrix/sdk/go"
	"github.com/wasmatrix/wasmatrix/sdk/go/httpc"
	"github.com/wasmatrix/wasmatrix/sdk/go/kv"
	"github.com/wasmatrix/wasmatrix/sdk/go/messaging"
	"github.com/wasmatrix/wasmatrix/sdk/go/messaging/push"
)

func main() {
	if v := wasmatrix.Version(); v < 2 {
		fail("version", v)
	}
	store()
	requests()
	messages()
	if _, err := wasmatrix.Output.WriteString("x"); !errors.Is(err, wasmatrix.ErrNoCall) {
		fail("output outside of an invocation", err)
	}
	if in, err := wasmatrix.Input(); in != nil || err != nil {
		fail("input", in, err)
	}
	fmt.Println("all is well")
}

func fail(v ...any) {
	fmt.Println(v...)
	os.Exit(1)
}

func store() {
	s := kv.Open("kv")
	if _, err := s.Get("none"); !errors.Is(err, wasmatrix.ErrNotFound) || err.Error() != "not found: there is no such key" {
		fail("get", err)
	}
	for _, n := range []int{0, 1, 1 << 10, 1<<10 + 1, 1 << 20} { // around the first buffer
		value := bytes.Repeat([]byte{'a', 'b', 'c'}, n/3+1)[:n]
		r, err := s.Set("value", value, kv.TTL(1500*time.Microsecond))
		if err != nil {
			fail("set", n, err)
		}
		if e, err := s.Get("value"); err != nil || e.Revision != r || !bytes.Equal(e.Value, value) {
			fail("get", n, len(e.Value), e.Revision, r, err)
		}
	}
	r, err := s.CAS("cas", 0, []byte("one"))
	if err != nil || r == 0 {
		fail("cas", r, err)
	}
	if there, err := s.CAS("cas", 0, nil); !errors.Is(err, wasmatrix.ErrConflict) || there != r {
		fail("cas again", there, r, err)
	}
	if e, err := s.Update("cas", func(e kv.Entry) ([]byte, error) { return append(e.Value, '!'), nil }); err != nil || string(e.Value) != "one!" {
		fail("update", e, err)
	}
	if _, err := s.Update("cas", func(kv.Entry) ([]byte, error) { return nil, io.ErrUnexpectedEOF }); !errors.Is(err, io.ErrUnexpectedEOF) {
		fail("update", err)
	}
	for _, want := range []bool{true, false} {
		if existed, err := s.Delete("cas"); err != nil || existed != want {
			fail("delete", existed, err)
		}
	}
	const keys = 1200 // of a page and more
	for i := range keys {
		if _, err := s.Set(fmt.Sprintf("list/%04d%s", i, strings.Repeat("k", 1000)), nil); err != nil {
			fail("set", err)
		}
	}
	n := 0
	for k, err := range s.List("list/") {
		if want := fmt.Sprintf("list/%04d", n); err != nil || k[:len(want)] != want {
			fail("list", k, want, err)
		}
		n++
	}
	if n != keys {
		fail("listed", n)
	}
	if first, more, err := s.Page("list/", "", 2); err != nil || len(first) != 2 || !more {
		fail("page", first, more, err)
	}
	if _, err := s.Get(""); !errors.Is(err, wasmatrix.ErrInvalid) {
		fail("no key", err)
	}
}

func requests() {
	c := httpc.Open("web")
	body := strings.Repeat("0123456789", 20_000) // of several pieces
	for _, from := range []io.Reader{strings.NewReader(body), io.MultiReader(strings.NewReader(body))} {
		resp, err := c.Post("http://host/", "text/plain", from)
		if err != nil {
			fail("post", err)
		}
		all, err := io.ReadAll(resp.Body)
		if err != nil || string(all) != body || resp.Status != 200 || resp.Header.Get("x-echo") != "yes" || resp.Header.Get("none") != "" {
			fail("response", resp.Status, resp.Header, len(all), err)
		}
		if err := errors.Join(resp.Body.Close(), resp.Body.Close()); err != nil {
			fail("close", err)
		}
	}
	if _, err := c.Do(&httpc.Request{URL: "http://host/", Body: io.MultiReader(strings.NewReader("x"), failing{})}); !errors.Is(err, io.ErrClosedPipe) {
		fail("a body that fails", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func messages() {
	b := messaging.Open("msg")
	sub, err := b.Subscribe("topic", "group")
	if err != nil {
		fail("subscribe", err)
	}
	big := bytes.Repeat([]byte("big"), 5000)
	for _, data := range [][]byte{nil, []byte("small"), big} {
		if err := b.Publish("topic", data); err != nil {
			fail("publish", err)
		}
		if m, err := sub.Receive(time.Second); err != nil || m.Topic != "topic" || !bytes.Equal(m.Data, data) || m.Dropped != 0 {
			fail("receive", len(m.Data), m.Topic, err)
		}
	}
	for _, wait := range []time.Duration{0, time.Millisecond} {
		if _, err := sub.Receive(wait); !errors.Is(err, wasmatrix.ErrTimeout) {
			fail("receive", err)
		}
	}
	if err := b.Publish("topic", []byte("last")); err != nil {
		fail("publish", err)
	}
	for m, err := range sub.Messages() {
		if err != nil || string(m.Data) != "last" {
			fail("messages", string(m.Data), err)
		}
		break
	}
	if err := sub.Close(); err != nil {
		fail("unsubscribe", err)
	}
	if _, err := sub.Receive(0); !errors.Is(err, wasmatrix.ErrHandle) {
		fail("receive", err)
	}
	if _, err := push.Handle("msg", "topic", "", nil); !errors.Is(err, wasmatrix.ErrInvalid) {
		fail("a command has messages pushed", err)
	}
}
