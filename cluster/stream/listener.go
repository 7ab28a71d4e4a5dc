package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
)

const (
	// handshakeTimeout bounds what an accepted connection may take to say what
	// it is.
	handshakeTimeout = 5 * time.Second
	// maxHandshakes bounds the accepted connections that have not said it yet.
	maxHandshakes = 256
	acceptBackoff = 50 * time.Millisecond
)

// keepAlive notices a peer that vanished without a word within 11 seconds, so
// that nobody reads from it for ever.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}

// Wrap secures a fresh connection, before the handshake. Target is the server
// that was dialled, "" on accepted connections. It must close conn where it
// fails. The connection has a deadline while Wrap runs.
type Wrap func(conn net.Conn, target wasmatrix.ServerID) (net.Conn, error)

// Config says where to listen and who we are.
type Config struct {
	Bind      string // host:port; port 0 takes a free one
	Advertise string // what peers dial; "" is the address bound, port 0 the port bound
	Self      wasmatrix.ServerID
	// Cluster returns the cluster we belong to, "" before there is one. It is
	// called for each connection and must not block.
	Cluster func() wasmatrix.ClusterID
	Wrap    Wrap // nil leaves connections as they are
	Logger  hclog.Logger
}

// Listener accepts and dials connections between servers. Its methods are safe
// for concurrent use.
type Listener struct {
	conf      Config
	log       hclog.Logger
	listener  net.Listener
	advertise advertised
	ctx       context.Context
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	pending   chan struct{} // one token for each handshake under way

	mu     sync.Mutex
	closed bool
	kinds  map[string]func(*conn) // takes the connection over; does not block
	conns  map[*conn]struct{}
}

// Listen binds the address and accepts. Connections of a kind that nobody has
// claimed are refused.
//
// Errors: CONFLICT where the address is taken, VALIDATION_ERROR where it is
// none of ours.
func Listen(conf Config) (*Listener, error) {
	if conf.Self == "" || len(conf.Self) > maxString {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "server ID %q is not valid", conf.Self)
	}
	if conf.Cluster == nil {
		conf.Cluster = func() wasmatrix.ClusterID { return "" }
	}
	if conf.Wrap == nil {
		conf.Wrap = func(c net.Conn, _ wasmatrix.ServerID) (net.Conn, error) { return c, nil }
	}
	if conf.Logger == nil {
		conf.Logger = hclog.NewNullLogger()
	}
	ln, err := (&net.ListenConfig{KeepAliveConfig: keepAlive}).Listen(context.Background(), "tcp", conf.Bind)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "the address %s for server traffic is already in use: %w", conf.Bind, err)
	}
	if err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "cannot listen on %s for server traffic: %w", conf.Bind, err)
	}
	adv, err := advertise(conf.Advertise, ln.Addr())
	if err != nil {
		_ = ln.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Listener{
		conf:      conf,
		log:       conf.Logger,
		listener:  ln,
		advertise: adv,
		ctx:       ctx,
		cancel:    cancel,
		pending:   make(chan struct{}, maxHandshakes),
		kinds:     make(map[string]func(*conn)),
		conns:     make(map[*conn]struct{}),
	}
	l.wg.Go(l.accept)
	return l, nil
}

// advertised is an address as peers dial it, which may be a name.
type advertised string

func (advertised) Network() string  { return "tcp" }
func (a advertised) String() string { return string(a) }

func advertise(want string, bound net.Addr) (advertised, error) {
	boundHost, boundPort, err := net.SplitHostPort(bound.String())
	if err != nil {
		return "", wasmatrix.Errorf(wasmatrix.CodeInternal, "bound to %s: %w", bound, err)
	}
	host, port := boundHost, boundPort
	if want != "" {
		if host, port, err = net.SplitHostPort(want); err != nil {
			return "", wasmatrix.Errorf(wasmatrix.CodeValidation, "the address to advertise for server traffic: %w", err)
		}
		if port == "0" || port == "" {
			port = boundPort
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", wasmatrix.Errorf(wasmatrix.CodeValidation, "the address to advertise for server traffic, %s, has no legible port", want)
		}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return "", wasmatrix.Errorf(wasmatrix.CodeValidation, "%s is not an address that peers can dial: say which to advertise for server traffic", net.JoinHostPort(host, port))
	}
	return advertised(net.JoinHostPort(host, port)), nil
}

// Addr returns the address that peers dial.
func (l *Listener) Addr() net.Addr { return l.advertise }

// Self returns the ID the listener answers for.
func (l *Listener) Self() wasmatrix.ServerID { return l.conf.Self }

// Handle gives connections of a kind to serve, each on a goroutine of its own
// and closed when serve returns. The context of a handler is the connection:
// Close closes it. Claiming a kind twice is a programming error and panics.
func (l *Listener) Handle(kind string, serve func(net.Conn)) {
	err := l.claim(kind, func(c *conn) {
		l.wg.Go(func() {
			defer func() { _ = c.Close() }()
			serve(c)
		})
	})
	if err != nil && !errors.Is(err, net.ErrClosed) {
		panic(err)
	}
}

// claim gives connections of a kind to take, which is called with l.mu held.
func (l *Listener) claim(kind string, take func(*conn)) error {
	if kind == "" || len(kind) > maxString {
		return fmt.Errorf("connection kind %q is not valid", kind)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	if _, ok := l.kinds[kind]; ok {
		return fmt.Errorf("connections of kind %q have their handler already", kind)
	}
	l.kinds[kind] = take
	return nil
}

func (l *Listener) disclaim(kind string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.kinds, kind)
}

// Dial opens a connection of a kind to the server target at addr. The caller
// closes it; Close of the listener does so too.
//
// Errors: COMMUNICATION_FAILURE where nobody answers or the answer is not ours,
// TIMEOUT where ctx ends first, and what the other side refuses with: CONFLICT
// for another server or another cluster.
func (l *Listener) Dial(ctx context.Context, kind string, target wasmatrix.ServerID, addr string) (net.Conn, error) {
	c, err := l.dial(ctx, kind, target, addr)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (l *Listener) dial(ctx context.Context, kind string, target wasmatrix.ServerID, addr string) (*conn, error) {
	frame, err := encodeHello(hello{kind: kind, cluster: l.conf.Cluster(), source: l.conf.Self, target: target})
	if err != nil || kind == "" || target == "" {
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "cannot dial %q at %s for %q", target, addr, kind)
	}
	during, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)() //nolint:contextcheck // dialling ends with its caller or the listener, whichever is first
	raw, err := (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext(during, "tcp", addr)
	if err != nil {
		return nil, l.dialError(ctx, target, addr, err)
	}
	c, err := l.track(kind, raw)
	if err != nil {
		_ = raw.Close()
		return nil, l.dialError(ctx, target, addr, err)
	}
	if err := l.introduce(during, c, target, frame); err != nil {
		_ = c.Close()
		return nil, l.dialError(ctx, target, addr, err)
	}
	return c, nil
}

// introduce runs the dialling side of the handshake. Whatever ends ctx ends it
// too.
func (l *Listener) introduce(ctx context.Context, c *conn, target wasmatrix.ServerID, frame []byte) error {
	if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	raw := c.Conn
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	wrapped, err := l.conf.Wrap(c.Conn, target)
	if err != nil {
		return err
	}
	c.Conn = wrapped
	if _, err := c.Write(frame); err != nil {
		return err
	}
	answer, err := readReply(c)
	if err != nil {
		return err
	}
	if answer.code != "" {
		if !slices.Contains(wasmatrix.Codes, answer.code) {
			answer.code = wasmatrix.CodeCommunication
		}
		return &wasmatrix.Error{Code: answer.code, Message: answer.message}
	}
	if !stop() {
		return ctx.Err() // its deadline may already be on the connection
	}
	return c.SetDeadline(time.Time{})
}

func (l *Listener) dialError(ctx context.Context, target wasmatrix.ServerID, addr string, err error) error {
	if refused, ok := errors.AsType[*wasmatrix.Error](err); ok {
		return wasmatrix.Errorf(refused.Code, "server %s at %s refuses: %s", target, addr, refused.Message)
	}
	if l.ctx.Err() != nil {
		err = net.ErrClosed
	} else if cause := ctx.Err(); cause != nil {
		return wasmatrix.Errorf(wasmatrix.CodeTimeout, "dial server %s at %s: %w", target, addr, cause)
	}
	return wasmatrix.Errorf(wasmatrix.CodeCommunication, "dial server %s at %s: %w", target, addr, err)
}

func (l *Listener) accept() {
	for {
		raw, err := l.listener.Accept()
		if err != nil {
			if l.ctx.Err() != nil {
				return
			}
			// Such as too many open files: that passes, or an operator sees it.
			l.log.Error("cannot accept server traffic", "error", err)
			select {
			case <-l.ctx.Done():
				return
			case <-time.After(acceptBackoff):
			}
			continue
		}
		select {
		case l.pending <- struct{}{}:
		case <-l.ctx.Done():
			_ = raw.Close()
			return
		}
		c, err := l.track("", raw)
		if err != nil {
			_ = raw.Close()
			return
		}
		l.wg.Go(func() {
			defer func() { <-l.pending }()
			if err := l.welcome(c); err != nil {
				_ = c.Close()
				if l.ctx.Err() == nil {
					l.log.Warn("refused a connection", "from", raw.RemoteAddr(), "error", err)
				}
			}
		})
	}
}

// welcome runs the accepting side of the handshake and hands the connection to
// whoever claimed its kind.
func (l *Listener) welcome(c *conn) error {
	if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	wrapped, err := l.conf.Wrap(c.Conn, "")
	if err != nil {
		return err
	}
	c.Conn = wrapped
	h, err := readHello(c)
	if err != nil {
		if _, ok := errors.AsType[versionError](err); ok {
			_, _ = c.Write(encodeReply(reply{code: wasmatrix.CodeCommunication, message: err.Error()}))
		}
		return err
	}
	if refusal := l.refusal(h); refusal != nil {
		_, _ = c.Write(encodeReply(reply{code: refusal.Code, message: refusal.Message}))
		return fmt.Errorf("from server %s: %w", h.source, refusal)
	}
	if _, err := c.Write(encodeReply(reply{})); err != nil {
		return err
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	take, ok := l.kinds[h.kind]
	if !ok || l.closed {
		return fmt.Errorf("from server %s: %s has just closed", h.source, h.kind)
	}
	c.kind, c.peer = h.kind, h.source
	take(c)
	return nil
}

// refusal says why a connection is not ours to take, nil where it is.
func (l *Listener) refusal(h hello) *wasmatrix.Error {
	if h.target != l.conf.Self {
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "this is server %s, not %s", l.conf.Self, h.target)
	}
	if ours := l.conf.Cluster(); ours != "" && h.cluster != "" && ours != h.cluster {
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "server %s belongs to cluster %s, not %s", l.conf.Self, ours, h.cluster)
	}
	l.mu.Lock()
	_, ok := l.kinds[h.kind]
	l.mu.Unlock()
	if !ok {
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "server %s does not serve %q", l.conf.Self, h.kind)
	}
	return nil
}

func (l *Listener) track(kind string, raw net.Conn) (*conn, error) {
	c := &conn{Conn: raw, raw: raw, listener: l, kind: kind}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, net.ErrClosed
	}
	l.conns[c] = struct{}{}
	return c, nil
}

// closeKind closes every connection of a kind, accepted or dialled.
func (l *Listener) closeKind(kind string) {
	l.mu.Lock()
	var mine []*conn
	for c := range l.conns {
		if c.kind == kind {
			mine = append(mine, c)
		}
	}
	l.mu.Unlock()
	for c := range slices.Values(mine) {
		_ = c.Close()
	}
}

// Close stops listening, closes every connection, and returns when all
// handlers have. Further calls wait for that too.
func (l *Listener) Close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	var all []*conn
	for c := range l.conns {
		all = append(all, c)
	}
	l.mu.Unlock()
	var err error
	if first {
		l.cancel()
		err = l.listener.Close()
		for _, c := range all {
			_ = c.Close()
		}
	}
	l.wg.Wait()
	if err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "close the listener for server traffic: %w", err)
	}
	return nil
}
