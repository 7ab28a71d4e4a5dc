package engine

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

func TestHTTP(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	r.want("hello body"+"X-Echo: yes\r\nLength: 10\r\n", []int32{1, 0, 0, 200, 4, 6, 0, 0, 0, 25, 0, 0},
		r.do(abi.HTTPOpen, "web", "POST", "http://host/path", "Accept: a, b\r\nX-Empty:\nX-Colon: a:b \n", 1500),
		r.do(abi.HTTPWrite, 1, "hello "), r.do(abi.HTTPWrite, 1, "body"), r.do(abi.HTTPSend, 1),
		r.do(abi.HTTPRead, 1, buf, 4), r.do(abi.HTTPRead, 1, buf+4, 100), r.do(abi.HTTPRead, 1, buf+10, 100), r.do(abi.HTTPRead, 1, buf+10, 100),
		r.do(abi.OutputWrite, buf, 10), r.do(abi.HTTPHeader, 1, buf, 100), r.do(abi.OutputWrite, buf, 25), r.do(abi.HTTPClose, 1))
	q := w.Requests()[0]
	header := []capability.Field{{Name: "Accept", Value: "a, b"}, {Name: "X-Empty"}, {Name: "X-Colon", Value: "a:b"}}
	if q.Method != http.MethodPost || q.URL != "http://host/path" || q.Timeout != 1500*time.Millisecond || !slices.Equal(q.Header, header) {
		t.Errorf("requested %+v", q)
	}
	if w.Open() != 0 {
		t.Errorf("%d are open", w.Open())
	}
	no := -int32(abi.ErrHandle)
	r.want("", []int32{no, no, no, no, no, no}, r.do(abi.HTTPWrite, 1, "x"), r.do(abi.HTTPSend, 1), r.do(abi.HTTPHeader, 1, buf, 1),
		r.do(abi.HTTPRead, 1, buf, 1), r.do(abi.HTTPClose, 1), r.do(abi.HTTPClose, 0))
}

// TestHTTPInTheWrongOrder.
func TestHTTPInTheWrongOrder(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	no := -int32(abi.ErrInvalid)
	r.want("", []int32{1, no, no, 200, no, 200, 0, 0}, r.do(abi.HTTPOpen, "web", "GET", "http://host/", "", 0),
		r.do(abi.HTTPRead, 1, buf, 1), r.do(abi.HTTPHeader, 1, buf, 1), r.do(abi.HTTPSend, 1), r.do(abi.HTTPWrite, 1, "x"), r.do(abi.HTTPSend, 1),
		r.do(abi.HTTPRead, 1, buf, 0), r.do(abi.HTTPClose, 1))
}

// TestRequestsThatAreMalformed are refused before anybody is asked.
func TestRequestsThatAreMalformed(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	const url = "http://host/"
	for _, tt := range []struct{ method, url, header string }{
		{"", url, ""},
		{"G T", url, ""},
		{"G\u00c9T", url, ""},
		{strings.Repeat("G", 33), url, ""},
		{"GET", "", ""},
		{"GET", "http://a b/", ""},
		{"GET", "http://a\n/", ""},
		{"GET", "http://\xff/", ""},
		{"GET", "http://\u00e9/", ""},
		{"GET", url, "no end: x"},
		{"GET", url, "no colon\n"},
		{"GET", url, ": no name\n"},
		{"GET", url, "a name: x\n"},
		{"GET", url, "Name : x\n"},
		{"GET", url, "Name: a\rb\n"},
		{"GET", url, "Name: a\x00b\n"},
		{"GET", url, "Name: \xff\n"},
		{"GET", url, "\n"},
		{"GET", url, " folded: x\n"},
	} {
		told, _ := r.script(r.do(abi.HTTPOpen, "web", tt.method, tt.url, tt.header, 0))
		if told[0] != -int32(abi.ErrInvalid) {
			t.Errorf("%q: told %d", tt, told[0])
		}
	}
	r.want("", []int32{-int32(abi.ErrInvalid), -int32(abi.ErrInvalid)}, r.do(abi.HTTPOpen, "web", "GET", url, "", -1), r.do(abi.HTTPOpen, "web", "GET", url, "", 1<<62))
	if got := w.Called(); len(got) > 0 {
		t.Errorf("called %q", got)
	}
}

// TestResponsesThatBreakOff: what came is given, and then the error, which stays.
func TestResponsesThatBreakOff(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	broken := wasmatrix.Errorf(wasmatrix.CodeCommunication, "broken off")
	w.Reply = func(*capability.Request, []byte) (*capability.Response, io.Reader) {
		return &capability.Response{Status: 206, Header: []capability.Field{{Name: "Long", Value: strings.Repeat("x", abi.MaxHeader)}}},
			&breaks{"some", broken}
	}
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	r.want("some", []int32{1, 206, -int32(abi.ErrTooLarge), 4, -int32(abi.ErrFailed), -int32(abi.ErrFailed), 0}, r.do(abi.HTTPOpen, "web", "GET", "http://host/", "", 0),
		r.do(abi.HTTPSend, 1), r.do(abi.HTTPHeader, 1, buf, 10), r.do(abi.HTTPRead, 1, buf, 10), r.do(abi.HTTPRead, 1, buf, 10),
		r.do(abi.HTTPRead, 1, buf, 10), r.do(abi.OutputWrite, buf, 4))
}

// breaks gives a text together with an error, and then nothing but the end.
type breaks struct {
	text string
	err  error
}

func (b *breaks) Read(p []byte) (int, error) {
	n, err := copy(p, b.text), b.err
	b.text, b.err = "", io.EOF
	return n, err
}

// TestRequestsOutliveTheirInvocation, and end with the run.
func TestRequestsOutliveTheirInvocation(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	var contexts []context.Context
	w.Before = func(ctx context.Context, call string) error {
		if strings.HasPrefix(call, "open") {
			contexts = append(contexts, ctx)
		}
		return nil
	}
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	open := r.do(abi.HTTPOpen, "web", "GET", "http://host/", "", 0)
	r.want("", []int32{1, 2}, open, open)
	r.want("", []int32{0}, r.do(abi.HTTPClose, 2))
	r.want("", []int32{0, 200}, r.do(abi.HTTPWrite, 1, "x"), r.do(abi.HTTPSend, 1))
	if contexts[0].Err() != nil || contexts[1].Err() == nil {
		t.Errorf("the contexts of the open one and the closed one: %v, %v", contexts[0].Err(), contexts[1].Err())
	}
	r.end(errTest)
	if contexts[0].Err() == nil || w.Open() != 0 {
		t.Errorf("%v, %d are open", contexts[0].Err(), w.Open())
	}
}

// TestHandlesAreBounded, of both kinds together, and are not taken for one another.
func TestHandlesAreBounded(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	open, subscribe := r.do(abi.HTTPOpen, "web", "GET", "http://host/", "", 0), r.do(abi.MsgSubscribe, "msg", "a", "", 0)
	push := r.do(abi.MsgSubscribe, "msg", "a", "", 1)
	var steps []step
	var want []int32
	for n := range abi.MaxOpen {
		steps, want = append(steps, []step{open, subscribe, push}[n%3]), append(want, int32(n+1))
	}
	r.want("", want, steps...)
	full, no := -int32(abi.ErrLimit), -int32(abi.ErrHandle)
	r.want("", []int32{full, full, full}, open, subscribe, push)
	if n := len(w.Called()); n < abi.MaxOpen || w.Open() != abi.MaxOpen {
		t.Errorf("%d calls, %d open", n, w.Open())
	}
	r.want("", []int32{no, no, no, no, no, no, no}, r.do(abi.MsgReceive, 1, 0, buf, 1), r.do(abi.MsgUnsubscribe, 1), r.do(abi.HTTPClose, 2), r.do(abi.HTTPSend, 2),
		r.do(abi.HTTPRead, 3, buf, 1), r.do(abi.MsgReceive, 3, 0, buf, 1), r.do(abi.HTTPClose, -1))
	r.want("", []int32{0, 0, 0, no}, r.do(abi.HTTPClose, 1), r.do(abi.MsgUnsubscribe, 2), r.do(abi.MsgUnsubscribe, 3), r.do(abi.MsgUnsubscribe, 3))
	r.want("", []int32{abi.MaxOpen + 1, abi.MaxOpen + 2, abi.MaxOpen + 3, full}, open, open, open, open)
	r.end(errTest)
	if w.Open() != 0 {
		t.Errorf("%d are open after the end", w.Open())
	}
}

// TestHandlesWrapAround, and those in use are not given again.
func TestHandlesWrapAround(t *testing.T) {
	x := &execution{}
	if n := x.keep(&exchange{}); n != 1 {
		t.Fatalf("the first is %d", n)
	}
	x.held.latest = 1<<31 - 2
	for _, want := range []int32{1<<31 - 1, 2, 3} {
		if n := x.keep(&exchange{}); n != want {
			t.Errorf("handle %d, want %d", n, want)
		}
	}
}
