package messaging

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
)

const (
	// connectTimeout bounds a dial, and what is said before the connection is usable.
	connectTimeout = 2 * time.Second
	// A server that answers no ping for clientPing times clientPingsOut is given up.
	clientPing     = time.Second
	clientPingsOut = 2
	// flushTimeout is how long a server may take to say that it has what was sent.
	flushTimeout = 5 * time.Second
	// writeTimeout is how long a socket may take nothing.
	writeTimeout = 2 * time.Second
)

// session is one connection, from its beginning to its end. There is no
// reconnecting within: so nothing of an earlier connection can be sent on a later.
type session struct {
	log     hclog.Logger
	addr    string          // of the server
	servers func() []string // nil if they do not answer
	nats    *nats.Conn
	guard   guard
	inflow  *inflow
	// routes finds subscriptions: *nats.Subscription to *subscription.
	routes sync.Map

	inbox    string             // what answers come to begins with
	inboxSub *nats.Subscription // nil if there are none
	answers  chan answer
	question uint64 // of the syncs goroutine

	flushes *rounds
	syncs   *rounds

	done chan struct{} // closed at the end; err is valid then
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
func dial(ctx context.Context, log hclog.Logger, t target, servers func() []string) (*session, error) {
	s := &session{
		log: log, addr: t.addr, servers: servers, inflow: newInflow(),
		answers: make(chan answer, 64), done: make(chan struct{}),
	}
	s.flushes = newRounds(s.flush)
	s.syncs = newRounds(s.sync)
	d := &dialer{ctx: ctx, session: s}
	nc, err := nats.Connect(t.url, append([]nats.Option{
		nats.NoReconnect(), nats.Timeout(connectTimeout), nats.FlusherTimeout(writeTimeout),
		nats.PingInterval(clientPing), nats.MaxPingsOutstanding(clientPingsOut),
		nats.SetCustomDialer(d), nats.SkipHostLookup(),
		nats.ClosedHandler(s.closed), nats.ErrorHandler(s.failed),
	}, t.options...)...)
	d.connected()
	if err != nil {
		if d.err != nil {
			err = d.err
		}
		return nil, err
	}
	s.nats = nc
	s.wg.Go(s.deal)
	s.wg.Go(func() { s.flushes.run(s.done, s.cause) })
	s.wg.Go(func() { s.syncs.run(s.done, s.cause) })
	if servers != nil {
		s.inbox = nats.NewInbox() + "."
		if s.inboxSub, err = nc.ChanSubscribe(s.inbox+"*", s.inflow.messages); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// dialer makes the socket of a session.
type dialer struct {
	ctx     context.Context
	session *session
	stop    func() bool
	err     error
}

// Dial implements [nats.CustomDialer].
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	nd := net.Dialer{Timeout: connectTimeout}
	var c net.Conn
	if c, d.err = nd.DialContext(d.ctx, network, address); d.err != nil {
		return nil, d.err
	}
	wrapped := &conn{Conn: c, guard: &d.session.guard, inflow: d.session.inflow, gone: make(chan struct{})}
	d.stop = context.AfterFunc(d.ctx, func() { _ = wrapped.Close() })
	return wrapped, nil
}

// connected ends the hold of the context on the socket.
func (d *dialer) connected() {
	if d.stop != nil {
		d.stop()
	}
}

// closed is called by NATS at the end of the connection.
func (s *session) closed(nc *nats.Conn) {
	s.err = nc.LastError()
	if s.err == nil {
		s.err = nats.ErrConnectionClosed
	}
	close(s.done)
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

// close ends the session and returns when its goroutines have ended.
func (s *session) close() {
	s.nats.Close()
	<-s.done
	s.wg.Wait()
}

// flush returns when the server has all that was sent before. A server that fails to
// say so in time is given up.
func (s *session) flush() error {
	err := s.nats.FlushTimeout(flushTimeout)
	if err != nil {
		s.nats.Close()
	}
	return err
}

// refusal returns the last thing that a server of one's own has refused. What is
// refused is known once a flush has ended.
func (s *session) refusal() error {
	if s.servers != nil {
		return nil // embedded ones refuse nothing
	}
	if err := s.nats.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		return err
	}
	return nil
}

// attach subscribes. Messages come once the server knows.
func (s *session) attach(sub *subscription) error {
	ns, err := s.nats.ChanQueueSubscribe(sub.topic, sub.group, s.inflow.messages)
	if err != nil {
		return err
	}
	s.routes.Store(ns, sub)
	sub.nats = ns
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
	if err := s.nats.Publish(topic, data); err != nil {
		t.giveBack()
		return nil, err
	}
	return s.flushes.join(t), nil
}
