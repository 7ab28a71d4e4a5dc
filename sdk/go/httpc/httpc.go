// Package httpc makes HTTP requests, without net/http, which would add some
// megabytes to a guest. Its subpackage transport is for who wants that.
package httpc

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/wasmatrix/wasmatrix/sdk/go/internal/host"
)

// Client is what a capability of type http gives access to.
type Client struct{ id string }

// Open returns the client of a capability. Nothing is checked before it is used.
func Open(capability string) Client { return Client{capability} }

// Field is one line of a header.
type Field struct{ Name, Value string }

// Header is one of requests or responses, in order.
type Header []Field

// Get returns the first value of a name, in whatever case, or "".
func (h Header) Get(name string) string {
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// Request is one to be made. Redirects are followed by the host.
type Request struct {
	Method string // "" is GET
	URL    string
	Header Header
	// Body is sent in pieces as it is read; nil is none. Without a Content-Length in
	// the header it is sent in chunks, unless it is of bytes or strings, whose
	// length is known.
	Body    io.Reader
	Timeout time.Duration // of all of it, the response's body included; 0 is the host's
}

// Response is one whose body is still to be read. The caller closes it.
type Response struct {
	Status int
	Header Header
	Body   io.ReadCloser
}

// Get makes a request without a body.
func (c Client) Get(url string) (*Response, error) { return c.Do(&Request{URL: url}) }

// Post makes a request with a body.
func (c Client) Post(url, contentType string, body io.Reader) (*Response, error) {
	return c.Do(&Request{Method: "POST", URL: url, Header: Header{{"Content-Type", contentType}}, Body: body})
}

// pieceSize is how much of a body is sent at a time, in bytes.
const pieceSize = 32 << 10

// Do makes a request, and returns when the header of the response is there. An
// answer of any status is no error.
func (c Client) Do(r *Request) (*Response, error) {
	method := r.Method
	if method == "" {
		method = "GET"
	}
	header, err := formatHeader(r)
	if err != nil {
		return nil, err
	}
	n, err := host.Check(host.HTTPOpen(c.id, method, r.URL, header, host.Millis(r.Timeout)))
	if err != nil {
		return nil, err
	}
	b := &body{handle: int32(n)}
	resp, err := b.exchange(r.Body)
	if err != nil {
		_ = b.Close() // the error that matters is there already
		return nil, err
	}
	return resp, nil
}

func formatHeader(r *Request) (string, error) {
	var s strings.Builder
	add := func(name, value string) error {
		if strings.ContainsAny(name, ":\r\n") || strings.ContainsAny(value, "\r\n") {
			return &host.Error{Code: host.ErrInvalid, Text: "a field of the header has a line end or a colon where it must not"}
		}
		s.WriteString(name + ": " + value + "\r\n")
		return nil
	}
	for _, f := range r.Header {
		if err := add(f.Name, f.Value); err != nil {
			return "", err
		}
	}
	if r.Header.Get("Content-Length") == "" {
		switch sized := r.Body.(type) {
		case *bytes.Reader, *bytes.Buffer, *strings.Reader:
			if l, ok := sized.(interface{ Len() int }); ok {
				_ = add("Content-Length", strconv.Itoa(l.Len()))
			}
		}
	}
	return s.String(), nil
}

// body is a request under way, and then what is left of its response.
type body struct {
	handle int32
	closed bool
}

// exchange sends a body and waits for the response.
func (b *body) exchange(from io.Reader) (*Response, error) {
	if from != nil {
		piece := make([]byte, pieceSize)
		for {
			n, err := from.Read(piece)
			if n > 0 {
				ptr, size := host.Bytes(piece[:n])
				if _, werr := host.Check(host.HTTPWrite(b.handle, ptr, size)); werr != nil {
					break // the server may have answered before it had all of it
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
		}
	}
	status, err := host.Check(host.HTTPSend(b.handle))
	if err != nil {
		return nil, err
	}
	text, err := host.Result(4<<10, func(buf unsafe.Pointer, size uint32) int32 { return host.HTTPHeader(b.handle, buf, size) })
	if err != nil {
		return nil, err
	}
	return &Response{Status: status, Header: parseHeader(string(text)), Body: b}, nil
}

func parseHeader(s string) (h Header) {
	for line := range strings.Lines(s) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			h = append(h, Field{name, strings.TrimSpace(value)})
		}
	}
	return h
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if b.closed {
		return 0, host.ErrHandle
	}
	n, err := host.Check(host.HTTPRead(b.handle, unsafe.Pointer(unsafe.SliceData(p)), uint32(len(p))))
	if err == nil && n == 0 {
		err = io.EOF
	}
	return n, err
}

// Close ends the request. It may be called more than once.
func (b *body) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	_, err := host.Check(host.HTTPClose(b.handle))
	return err
}
