package messaging

import (
	"strconv"
	"strings"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Servers tell one another of subscriptions asynchronously. But what one tells
// another keeps its order: a message that a client publishes after it has
// subscribed comes to each other server after the news of the subscription. So every
// server answers messages on syncTopic with its name, and a client that has the
// answers of all knows that all know of its subscription.
const (
	syncTopic = "$WASMATRIX.SYNC"
	// syncWait is how long a client waits for the answers of servers that are
	// listed: some may be gone, and are not worth more.
	syncWait = 250 * time.Millisecond
)

// respond has a server answer, over a connection inside the process.
func respond(ns *natsserver.Server, name, token string) (*nats.Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(ns), nats.Token(token), nats.Name("sync"),
		nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return nil, err
	}
	if _, err = nc.Subscribe(syncTopic, func(m *nats.Msg) { _ = m.Respond([]byte(name)) }); err == nil {
		err = nc.Flush()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

// answer is that of one server to one question.
type answer struct {
	question uint64
	server   string
}

// sync asks all servers, and returns when those that are listed have answered,
// or it is not worth waiting any longer. It fails only with the connection, or with one
// that is slower than any should be. It is called by one goroutine at a time.
func (s *session) sync() error {
	missing := make(map[string]bool)
	if s.servers != nil {
		for _, a := range s.servers() {
			missing[a] = true
		}
	}
	delete(missing, s.addr)
	if len(missing) == 0 {
		return s.flushSub(syncTimeout)
	}
	s.question++
	if err := s.sub.PublishRequest(syncTopic, s.inbox+strconv.FormatUint(s.question, 10), nil); err != nil {
		return err
	}
	if err := s.flushSub(syncTimeout); err != nil {
		return err
	}
	timer := time.NewTimer(syncWait)
	defer timer.Stop()
	for len(missing) > 0 {
		select {
		case a := <-s.answers:
			if a.question == s.question {
				delete(missing, a.server)
			}
		case <-timer.C:
			s.log.Debug("servers that are listed do not answer", "count", len(missing))
			return nil
		case <-s.done:
			return s.cause()
		}
	}
	return nil
}

// answered takes a message to the inbox. It does not block.
func (s *session) answered(m *nats.Msg) {
	n, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, s.inbox), 10, 64)
	if err != nil {
		return
	}
	select {
	case s.answers <- answer{n, string(m.Data)}:
	default:
	}
}
