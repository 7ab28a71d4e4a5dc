package link

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

// Protocol is what a request wants its connection to become.
const Protocol = "wasmatrix-link/1"

// Bounds of the beginning.
const (
	connectTimeout = 10 * time.Second
	maxRefusal     = 64 << 10 // bytes of a refusal
)

// Dial connects to an address.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// Connect connects the link to a path at addr (host:port), and has sent what waits.
// Call it once, before Receive. A refusal is the error that the other side gave.
func (l *Link) Connect(ctx context.Context, dial Dial, addr, path string) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := dial(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	r, err := upgrade(ctx, conn, addr, path)
	if err != nil {
		_ = conn.Close() // the error that counts is there
		return err
	}
	l.start(conn, r)
	l.attach()
	return nil
}

func upgrade(ctx context.Context, conn net.Conn, addr, path string) (io.Reader, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	req := &http.Request{
		Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: addr, Path: path}, Host: addr, ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {Protocol}, "User-Agent": {"wasmatrix/" + wasmatrix.Version}},
	}
	err := req.Write(conn)
	r := bufio.NewReader(conn)
	if err == nil {
		err = accepted(r, req)
	}
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
	}
	return r, err
}

// accepted reads the response to a request, and fails with why there is to be no link.
func accepted(r *bufio.Reader, req *http.Request) error {
	res, err := http.ReadResponse(r, req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols && res.Header.Get("Upgrade") == Protocol {
		return nil
	}
	var said struct {
		Message string `json:"message"`
	}
	b, _ := io.ReadAll(io.LimitReader(res.Body, maxRefusal))
	if code := res.Header.Get(wire.HeaderCode); code != "" && json.Unmarshal(b, &said) == nil {
		return wasmatrix.Errorf(wasmatrix.Code(code), "%s", said.Message)
	}
	return fmt.Errorf("it answered with status %d and no link", res.StatusCode)
}

// Asked reports whether a request wants a link.
func Asked(r *http.Request) bool {
	for _, v := range r.Header.Values("Connection") {
		for one := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(one), "upgrade") {
				return r.ProtoMajor == 1 && r.Header.Get("Upgrade") == Protocol
			}
		}
	}
	return false
}

// rest reads what was read already, and then the connection itself: an error of the
// server's own reader would end the context of the request.
func rest(conn net.Conn, read *bufio.Reader) io.Reader {
	b, _ := read.Peek(read.Buffered()) // has so many
	if len(b) == 0 {
		return conn
	}
	return io.MultiReader(bytes.NewReader(bytes.Clone(b)), conn)
}

// Accept makes a link of the connection of a request that was Asked. The server of
// the request knows nothing of it any more.
func Accept(w http.ResponseWriter) (*Link, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	l := &Link{patience: silencesAccepted}
	l.out = newOutbox(func(Claim) {}, l.fail)
	_ = conn.SetDeadline(time.Time{}) // of a connection that is closed
	l.start(conn, rest(conn, buffered.Reader))
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+Protocol+"\r\n\r\n"); err != nil {
		l.fail(err)
		return nil, err
	}
	l.attach()
	return l, nil
}
