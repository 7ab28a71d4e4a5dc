package messaging

import (
	"context"
	"errors"
	"math"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"github.com/wasmatrix/wasmatrix/socket"
)

const (
	// connectTimeout bounds a dial, and what is said before the connection is usable.
	connectTimeout = 2 * time.Second
	// clientPing is how often a server is made to say something.
	clientPing = time.Second
	// flushTimeout is how long a server may take to say that it has what was published.
	flushTimeout = 5 * time.Second
	// syncTimeout is how long it may take to say that it knows of subscriptions: this it
	// says after all messages that it has for the client.
	syncTimeout = 30 * time.Second
	// writeTimeout is how long a socket may take nothing.
	writeTimeout = 2 * time.Second
)

// session is what connects the client with one server, from its beginning to its end.
// There is no reconnecting within: so nothing of an earlier one can be sent on a later.
//
// It has two connections, since the server's word that it has a message would
// otherwise come after all the messages that it has for the node, and a guest that is
// sent too many would slow all that publish.
type session struct {
	log     hclog.Logger
	addr    string          // of the server
	servers func() []string // nil if they do not answer
	pub     *nats.Conn
	sub     *nats.Conn
	sockets [2]*conn
	guard   guard // of what is published
	inflow  *inflow
	// routes finds subscriptions: *nats.Subscription to *subscription.
	routes sync.Map

	inbox    string             // what answers come to begins with
	inboxSub *nats.Subscription // nil if there are none
	answers  chan answer
	question uint64 // of the syncs goroutine

	flushes *rounds
	syncs   *rounds

	end  sync.Once
	done chan struct{} // closed when one of the connections has ended; err is valid then
	err  error
	wg   sync.WaitGroup
}

// target is a server to connect to.
type target struct {
	url     string // for NATS
	addr    string
	options []nats.Option
}

// dial connects to a server. ctx bounds the call.
func dial(ctx context.Context, log hclog.Logger, t target, servers func() []string) (s *session, err error) {
	s = &session{
		log: log, addr: t.addr, servers: servers, inflow: newInflow(),
		answers: make(chan answer, 64), done: make(chan struct{}),
	}
	s.flushes = newRounds(s.flush)
	s.syncs = newRounds(s.sync)
	if s.sub, s.sockets[0], err = s.connect(ctx, t, nil, s.inflow); err != nil {
		return nil, err
	}
	if s.pub, s.sockets[1], err = s.connect(ctx, t, &s.guard, nil); err != nil {
		s.sub.Close()
		return nil, err
	}
	s.wg.Go(s.deal)
	s.wg.Go(func() { s.flushes.run(s.done, s.cause) })
	s.wg.Go(func() { s.syncs.run(s.done, s.cause) })
	if servers != nil {
		s.inbox = nats.NewInbox() + "."
		if s.inboxSub, err = s.sub.ChanSubscribe(s.inbox+"*", s.inflow.messages); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// connect makes one of the connections, which has a guard, or an inflow.
func (s *session) connect(ctx context.Context, t target, g *guard, in *inflow) (*nats.Conn, *conn, error) {
	d := &dialer{ctx: ctx, guard: g, inflow: in}
	nc, err := nats.Connect(t.url, append([]nats.Option{
		nats.NoReconnect(), nats.Timeout(connectTimeout), nats.FlusherTimeout(writeTimeout),
		// Whether it is answered is for idle to find out.
		nats.PingInterval(clientPing), nats.MaxPingsOutstanding(math.MaxInt32),
		nats.SetCustomDialer(d), nats.SkipHostLookup(), nats.IgnoreDiscoveredServers(),
		nats.ClosedHandler(s.closed), nats.ErrorHandler(s.failed),
	}, t.options...)...)
	d.connected()
	if err != nil && d.err != nil {
		err = d.err
	}
	return nc, d.conn, err
}

// dialer makes the socket of a connection.
type dialer struct {
	ctx    context.Context
	guard  *guard
	inflow *inflow
	stop   func() bool
	conn   *conn
	err    error
}

// Dial implements [nats.CustomDialer].
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	nd := net.Dialer{Timeout: connectTimeout}
	var c net.Conn
	if c, d.err = nd.DialContext(d.ctx, network, address); d.err != nil {
		return nil, d.err
	}
	d.conn = &conn{Conn: c, out: socket.NewWriter(c), guard: d.guard, inflow: d.inflow, gone: make(chan struct{})}
	d.stop = context.AfterFunc(d.ctx, func() { _ = d.conn.Close() })
	return d.conn, nil
}

// connected ends the hold of the context on the socket.
func (d *dialer) connected() {
	if d.stop != nil {
		d.stop()
	}
}

// closed is called by NATS at the end of a connection, also of one that did not
// come to be in use.
func (s *session) closed(nc *nats.Conn) {
	s.end.Do(func() {
		s.err = nc.LastError()
		if s.err == nil {
			s.err = nats.ErrConnectionClosed
		}
		close(s.done)
	})
}

// failed is called by NATS for errors that do not end the connection.
func (s *session) failed(_ *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) && sub != nil {
		// Cannot be, by the room of the inflow. If it were, drops would not be counted.
		s.log.Error("messages were lost on their way to a subscription", "topic", sub.Subject)
		return
	}
	s.log.Debug("messaging server refuses", "server", s.addr, "error", err)
}

// cause is why the session has ended.
func (s *session) cause() error { return s.err }

// ended reports whether the session is of no more use.
func (s *session) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// idle reports whether one of the connections has given nothing to read for some of
// its calls in a row, though the server is pinged between them. (To wait for answers to
// pings would not do: they come after all that is before them.)
type idle struct {
	reads [2]uint64
	calls [2]int
}

const idleCalls = 4

func (i *idle) check(s *session) bool {
	for n, c := range s.sockets {
		if reads := c.reads.Load(); reads != i.reads[n] {
			i.reads[n], i.calls[n] = reads, 0
		} else if i.calls[n]++; i.calls[n] >= idleCalls {
			return true
		}
	}
	return false
}

// close ends the session and returns when its goroutines have ended.
func (s *session) close() {
	s.pub.Close()
	s.sub.Close()
	<-s.done
	s.wg.Wait()
}

// flush returns when the server has all that was published before. A server that fails
// to say so in time is given up: nothing may be written of a message whose publisher is
// no longer there to be asked.
func (s *session) flush() error {
	err := s.pub.FlushTimeout(flushTimeout)
	if err != nil {
		s.pub.Close()
	}
	return err
}

// flushSub returns when the server knows of all subscriptions that were made before.
func (s *session) flushSub(timeout time.Duration) error {
	err := s.sub.FlushTimeout(timeout)
	if err != nil {
		s.sub.Close()
	}
	return err
}

// refusal returns the last thing that a server of one's own has refused on a
// connection. What is refused is known once a flush has ended.
func (s *session) refusal(nc *nats.Conn) error {
	if s.servers != nil {
		return nil // embedded ones refuse nothing
	}
	if err := nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		return err
	}
	return nil
}

// attach subscribes, under the client's mu. Messages come once the server knows.
func (s *session) attach(sub *subscription) error {
	ns, err := s.sub.ChanQueueSubscribe(sub.topic, sub.group, s.inflow.messages)
	if err != nil {
		return err
	}
	s.routes.Store(ns, sub)
	sub.session, sub.nats = s, ns
	return nil
}

// detach unsubscribes what attach has subscribed.
func (s *session) detach(ns *nats.Subscription) {
	s.routes.Delete(ns)
	_ = ns.Unsubscribe()
}

// deal hands messages to their subscriptions, also those that have come before the
// end.
func (s *session) deal() {
	for {
		select {
		case m := <-s.inflow.messages:
			s.route(m)
			s.inflow.dealt()
			continue
		case <-s.done:
		}
		for {
			select {
			case m := <-s.inflow.messages:
				s.route(m)
			default:
				return
			}
		}
	}
}

func (s *session) route(m *nats.Msg) {
	if m.Sub == s.inboxSub {
		s.answered(m)
		return
	}
	if sub, ok := s.routes.Load(m.Sub); ok && !reserved(m.Subject) {
		sub.(*subscription).deliver(m)
	}
}

// publish hands a message over, for the flush that is returned.
func (s *session) publish(alive func() bool, topic string, data []byte) (*round, error) {
	var t *ticket
	if alive != nil {
		t = s.guard.take(alive)
	}
	if err := s.pub.Publish(topic, data); err != nil {
		t.giveBack()
		return nil, err
	}
	return s.flushes.join(t), nil
}
