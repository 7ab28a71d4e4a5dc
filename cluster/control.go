package cluster

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/group"
	"github.com/wasmatrix/wasmatrix/cluster/stream"
)

// controlKind is what servers speak to one another beside Raft: one request and
// one answer per connection, each a length of four bytes, big endian, and JSON.
const controlKind = "control"

const (
	maxControl     = 64 << 10        // bytes of one message
	controlTimeout = 3 * time.Second // of one exchange, where the caller is more patient
	// A removal ends with a commit, an admission likewise.
	commitTimeout = 10 * time.Second
)

// The operations.
const (
	opStats   = "stats"   // how far is your log
	opAdmit   = "admit"   // of the leader: take me in
	opMember  = "member"  // of the leader: is Target in the committed configuration
	opRemove  = "remove"  // of the leader: remove Target
	opPromise = "promise" // stand by to be bootstrapped with these servers

	opPrepare = "group-prepare" // what have you accepted of how Group begins, in Term of the control group
	opAccept  = "group-accept"  // accept that Group begins with Founders, in Term
	opFound   = "group-found"   // Group begins with Founders: that is chosen
)

type request struct {
	Op      string               `json:"op"`
	From    wasmatrix.ServerID   `json:"from"`
	Cluster wasmatrix.ClusterID  `json:"cluster,omitempty"`
	Addr    string               `json:"addr,omitempty"`      // with admit: where From's Raft is reached
	State   bool                 `json:"has_state,omitempty"` // with admit: From has a log
	Started int64                `json:"started,omitempty"`   // with admit: From's gossip tag, which tells its processes apart
	Target  wasmatrix.ServerID   `json:"target,omitempty"`    // with remove and member; "" is From
	Servers []wasmatrix.ServerID `json:"servers,omitempty"`   // with promise, sorted

	Group    string    `json:"group,omitempty"` // with member and remove, "" is the control group
	Term     uint64    `json:"term,omitempty"`
	Founders []founder `json:"founders,omitempty"` // by ID
}

type response struct {
	Error *controlError `json:"error,omitempty"`
	// Member, with admit and member: the server is in the configuration (now).
	Member bool         `json:"member,omitempty"`
	Stats  *serverStats `json:"stats,omitempty"`
	// Founding answers prepare.
	Founding *founding `json:"founding,omitempty"`
}

// controlError is a [wasmatrix.Error] on its way.
type controlError struct {
	Code    wasmatrix.Code     `json:"code"`
	Message string             `json:"message"`
	Leader  wasmatrix.ServerID `json:"leader,omitempty"` // with NOT_LEADER, where known
	// Fatal says that asking again is of no use: an operator has to act.
	Fatal bool `json:"fatal,omitempty"`
}

func (e *controlError) Error() string { return string(e.Code) + ": " + e.Message }

// err returns what users see.
func (e *controlError) err() *wasmatrix.Error { return wasmatrix.Errorf(e.Code, "%s", e.Message) }

// serverStats is a server's own view of itself.
type serverStats struct {
	logStats        // of the control group
	Version  string `json:"version"`
	Leaving  bool   `json:"leaving,omitempty"`
	// Groups are the hosted groups that it has open.
	Groups map[string]logStats `json:"groups,omitempty"`
}

// logStats is a server's own view of its log of a group.
type logStats struct {
	LastContact time.Duration `json:"last_contact"` // since the leader was heard; 0 on the leader
	Term        uint64        `json:"term"`
	LastTerm    uint64        `json:"last_term"` // of the last log entry
	LastIndex   uint64        `json:"last_index"`
	Applied     uint64        `json:"applied"`
}

func writeMessage(w io.Writer, m any) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > maxControl {
		return errors.New("control message too long")
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func readMessage(r io.Reader, m any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxControl {
		return errors.New("control message too long")
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return json.Unmarshal(b, m)
}

// ask sends one request to a server and returns its answer. The error is a
// *controlError where the server refused, else COMMUNICATION_FAILURE.
func (c *Cluster) ask(ctx context.Context, to wasmatrix.ServerID, addr string, req request) (*response, error) {
	req.From, req.Cluster = c.identity.Server(), c.identity.Cluster()
	var resp response
	if err := c.exchange(ctx, to, addr, &req, &resp); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeCommunication, "server %s at %s: %w", to, addr, err)
	}
	if resp.Error != nil {
		return nil, resp.Error
	}
	return &resp, nil
}

func (c *Cluster) exchange(ctx context.Context, to wasmatrix.ServerID, addr string, req *request, resp *response) error {
	conn, err := c.stream.Dial(ctx, controlKind, to, addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := writeMessage(conn, req); err != nil {
		return err
	}
	return readMessage(conn, resp)
}

// serveControl answers one request.
func (c *Cluster) serveControl(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(c.ctx, func() { _ = conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(controlTimeout))
	var req request
	if err := readMessage(conn, &req); err != nil || req.From != stream.Peer(conn) {
		c.log.Debug("unreadable control request", "from", conn.RemoteAddr(), "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, commitTimeout)
	defer cancel()
	resp, err := c.answer(ctx, &req)
	if err != nil {
		resp = &response{Error: toControlError(err)}
	}
	_ = conn.SetDeadline(time.Now().Add(controlTimeout))
	if err := writeMessage(conn, resp); err != nil {
		c.log.Debug("control answer was not sent", "to", req.From, "error", err)
	}
}

func toControlError(err error) *controlError {
	if e, ok := errors.AsType[*controlError](err); ok {
		return e
	}
	e := wasmatrix.AsError(err)
	return &controlError{Code: e.Code, Message: e.Message, Leader: wasmatrix.ServerID(e.Details[group.DetailLeaderID])}
}

// askAll asks servers at the same time, this one too if it is among them, and
// returns what each answered until ctx ended.
func (c *Cluster) askAll(ctx context.Context, servers []Server, req request) map[wasmatrix.ServerID]answer {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout/2)
	defer cancel()
	answers := make([]answer, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() {
			a := &answers[i]
			if s.ID == c.identity.Server() {
				own := req
				own.From = s.ID
				a.response, a.err = c.answer(ctx, &own)
				return
			}
			addr, ok := c.resolve(s.ID)
			if !ok {
				addr = s.Addr
			}
			a.response, a.err = c.ask(ctx, s.ID, addr, req)
		})
	}
	wg.Wait()
	out := make(map[wasmatrix.ServerID]answer, len(servers))
	for i, s := range servers {
		out[s.ID] = answers[i]
	}
	return out
}

// answer is what a server answered, or why it did not.
type answer struct {
	*response
	err error
}

func (c *Cluster) answer(ctx context.Context, req *request) (*response, error) {
	switch req.Op {
	case opStats:
		s := c.localStats()
		return &response{Stats: &s}, nil
	case opPromise:
		return &response{}, c.promise(req)
	case opAdmit:
		return c.admit(ctx, req)
	case opPrepare, opAccept, opFound:
		return c.answerFounding(req)
	}
	h := c.control
	if req.Group != "" && req.Group != controlGroup {
		h = c.Group(req.Group)
	}
	target := req.Target
	if target == "" {
		target = req.From
	}
	switch {
	case h == nil:
		// Not refused for good: another server may lead it.
		return nil, wasmatrix.Errorf(wasmatrix.CodeNotLeader, "server %s does not host group %s", c.cfg.Name, req.Group)
	case req.Op == opMember:
		return h.isMember(ctx, target)
	case req.Op == opRemove:
		return &response{}, h.removeServer(ctx, target)
	default:
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "unknown operation %q", req.Op)
	}
}
