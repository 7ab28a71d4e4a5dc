package engine

import (
	"context"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
)

// exchange is a request that is open. Its context is of the run, since it may
// outlive the invocation that opened it.
type exchange struct {
	capability.Exchange
	cancel   context.CancelFunc
	response *capability.Response // nil before the body has ended
	err      error                // that Read has given together with bytes
}

func (e *exchange) close() {
	e.cancel()
	_ = e.Close() // nobody is left who could do something about it
}

// lasting makes a context for what is opened by a call and goes on after it. Until
// settled is called it ends with the call, too.
func (x *execution) lasting() (ctx context.Context, cancel context.CancelFunc, settled func() bool) {
	outer := x.Context
	if x.call != nil {
		outer = x.call.outer
	}
	ctx, cancel = context.WithCancel(outer)
	return ctx, cancel, context.AfterFunc(x.Context, cancel)
}

func httpOpen(x *execution, a *args) (int32, error) {
	id := a.capability(x)
	r := &capability.Request{Method: a.text("the method", 1, abi.MaxMethod)}
	url := a.bytes(abi.MaxURL, errTooLarge)
	header := a.bytes(abi.MaxHeader, errTooLarge)
	r.Timeout = a.duration("the timeout", false)
	if a.err != nil {
		return 0, a.err
	}
	if r.URL = string(url); !isToken(r.Method) || r.URL == "" || strings.ContainsFunc(r.URL, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return 0, errRequest
	}
	var err error
	if r.Header, err = parseHeader(string(header)); err != nil {
		return 0, err
	}
	if err := x.room(); err != nil {
		return 0, err
	}
	ctx, cancel, settled := x.lasting()
	x.leave()
	inner, err := x.caps.HTTPOpen(ctx, id, r)
	settled()
	if err != nil {
		cancel()
		x.back()
		return 0, err
	}
	n := x.keep(&exchange{Exchange: inner, cancel: cancel}) // before what may end the guest
	x.back()
	return n, nil
}

var (
	errRequest   = &refusal{abi.ErrInvalid, "the method is not a token of HTTP, or the URL is empty or has characters that are not allowed in one"}
	errHeader    = &refusal{abi.ErrInvalid, "the header is not lines of \"Name: value\""}
	errSent      = &refusal{abi.ErrInvalid, "the body has ended: http_send was called"}
	errNotSent   = &refusal{abi.ErrInvalid, "there is no response before http_send"}
	errShortBody = &refusal{abi.ErrFailed, "the body could not be sent"}
)

// parseHeader reads lines of "Name: value".
func parseHeader(s string) ([]capability.Field, error) {
	if !utf8.ValidString(s) {
		return nil, errHeader
	}
	var fields []capability.Field
	for s != "" {
		line, rest, ok := strings.Cut(s, "\n")
		if !ok {
			return nil, errHeader
		}
		s = rest
		line = strings.TrimSuffix(line, "\r")
		name, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !ok || !isToken(name) || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return nil, errHeader
		}
		fields = append(fields, capability.Field{Name: name, Value: value})
	}
	return fields, nil
}

// isToken holds s to the rule of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
	})
}

// wait lets a blocking method of the exchange do its work. When the invocation
// ends meanwhile, so does the exchange, and with it the method.
func (x *execution) wait(e *exchange, method func()) {
	stop := context.AfterFunc(x.Context, e.cancel)
	x.leave()
	method()
	stop()
	x.back()
}

func httpWrite(x *execution, a *args) (int32, error) {
	e, _ := opened[*exchange](x, a)
	piece := a.bytes(abi.MaxPiece, errTooLarge)
	switch {
	case a.err != nil:
		return 0, a.err
	case e.response != nil:
		return 0, errSent
	case len(piece) == 0:
		return 0, nil
	}
	var n int
	var err error
	x.wait(e, func() { n, err = e.Write(piece) })
	if err == nil && n < len(piece) {
		err = errShortBody
	}
	return 0, err
}

func httpSend(x *execution, a *args) (int32, error) {
	e, _ := opened[*exchange](x, a)
	if a.err != nil {
		return 0, a.err
	}
	var r *capability.Response
	var err error
	x.wait(e, func() { r, err = e.Response() })
	if err != nil {
		return 0, err
	}
	e.response = r
	return int32(r.Status), nil
}

func httpHeader(x *execution, a *args) (int32, error) {
	e, _ := opened[*exchange](x, a)
	buf := a.buffer()
	switch {
	case a.err != nil:
		return 0, a.err
	case e.response == nil:
		return 0, errNotSent
	}
	size := 0
	for _, f := range e.response.Header {
		size += len(f.Name) + len(f.Value) + len(": \r\n")
	}
	if size > abi.MaxHeader {
		return 0, errTooLarge
	}
	header := make([]byte, 0, size)
	for _, f := range e.response.Header {
		header = append(append(append(append(header, f.Name...), ": "...), f.Value...), "\r\n"...)
	}
	return x.give(buf, header), nil
}

func httpRead(x *execution, a *args) (int32, error) {
	e, _ := opened[*exchange](x, a)
	buf := a.buffer()
	switch {
	case a.err != nil:
		return 0, a.err
	case e.response == nil:
		return 0, errNotSent
	case len(buf) == 0:
		return 0, nil
	}
	var n int
	err := e.err
	if err == nil {
		x.wait(e, func() {
			for n == 0 && err == nil {
				n, err = e.Read(buf[:min(len(buf), abi.MaxPiece)])
			}
		})
	}
	if n > 0 {
		e.err = err // comes next
		return int32(n), nil
	}
	if e.err = err; errors.Is(err, io.EOF) {
		return 0, nil
	}
	return 0, err
}

func httpClose(x *execution, a *args) (int32, error) {
	e, n := opened[*exchange](x, a)
	if a.err != nil {
		return 0, a.err
	}
	x.shut(e, n)
	return 0, nil
}
