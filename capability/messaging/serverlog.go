package messaging

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	natsserver "github.com/nats-io/nats-server/v2/server"
)

// serverLog passes the log of a NATS server on. It never ends the process, as the
// server's own log does with what is fatal.
type serverLog struct {
	log hclog.Logger

	mu  sync.Mutex
	err error // the first that was fatal
}

func newServerLog(log hclog.Logger) *serverLog { return &serverLog{log: log} }

// fatal returns what kept the server from starting.
func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Notices are what a server says of each connection and reload: of no interest
// while all is well.
func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Debugf(format string, v ...any)  { l.log.Trace(fmt.Sprintf(format, v...)) }
func (l *serverLog) Tracef(format string, v ...any)  { l.log.Trace(fmt.Sprintf(format, v...)) }
func (l *serverLog) Warnf(format string, v ...any)   { l.warn(fmt.Sprintf(format, v...)) }

// Errors are of connections: a route that does not answer, a client that is cut off.
func (l *serverLog) Errorf(format string, v ...any) { l.warn(fmt.Sprintf(format, v...)) }

// warn warns, unless all that happened is that a server does not know its cluster yet,
// as when the cluster begins: routes are dialled again, which the server's notices tell.
func (l *serverLog) warn(text string) {
	if strings.Contains(text, unnamed) || strings.HasSuffix(text, natsserver.ErrClusterNameRemoteConflict.Error()) {
		l.log.Debug(text)
		return
	}
	l.log.Warn(text)
}

func (l *serverLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.log.Error(text)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = errors.New(text)
	}
}
