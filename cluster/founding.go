package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/group"
)

// founding is what a server has accepted of how a hosted group begins: with
// which servers as voters. It is the acceptor's state of one instance of Paxos,
// in which
//
//   - the ballots are the terms of the control group. Raft elects one leader in a
//     term at most, and that one alone proposes, one value in a term;
//   - the acceptors are the voters of the control group. A server answers, and
//     accepts, only in the very term that its control log is in. Raft has that on
//     disk before anyone sees it, and it never falls: so an answer is a promise
//     to accept nothing of an earlier term, and survives a crash without being
//     written anywhere else;
//   - the leader asks all voters. Of what a majority answers, it takes up what was
//     accepted in the latest term. Only where every voter answers that it has
//     accepted nothing does it propose the voters of now. (For safety a majority
//     would do. But who cannot be asked may be of a release that knows nothing of
//     this.)
//   - what a majority has accepted in the leader's term is chosen. All servers are
//     told so, and a server opens the group only once it knows. Its log, if empty,
//     begins with the servers chosen, where it is one of them: all of them may do
//     that, since they do the same.
//
// The acceptors change when the control configuration does, and that must not
// forget what was chosen. Hence a leader changes who votes only where it knows,
// in its term, one of two things (see mayRemove and mayPromote):
//
//   - Nothing is chosen. A majority has answered that it has accepted nothing,
//     and the leader has not proposed. Whoever proposed before can find no majority
//     any more: those who answered refuse it.
//   - Something is chosen. Then a removal waits until a majority of those that
//     remain know the choice, and a server must know it before it gets a vote. So
//     from then on a majority of the voters knows it, whoever they are, and every
//     majority that a later leader asks has one of them.
//
// It follows that two values are never chosen, so that no two logs of a group
// ever begin differently: not by a leader that was deposed, not by one that was
// removed besides and wakes up with all its answers in hand, and not after a
// crash in between. A majority of the acceptors losing their disks is beyond
// this, as it is beyond Raft.
//
// A server that runs a release, or has a configuration, without the group counts
// as one that has accepted nothing, and nothing is proposed while it votes. The
// promise above is then not its to give: this relies on no server being taken
// back to such a release while a proposal is under way.
type founding struct {
	Term     uint64    `json:"term,omitempty"` // in which it was accepted; 0 for nothing
	Founders []founder `json:"founders,omitempty"`
	Chosen   bool      `json:"chosen,omitempty"`
}

// founder is a voter that a group begins with.
type founder struct {
	ID   wasmatrix.ServerID `json:"id"`
	Addr string             `json:"addr"`
}

func foundersOf(voters []Server) []founder {
	out := make([]founder, 0, len(voters))
	for _, v := range voters {
		out = append(out, founder{v.ID, v.Addr})
	}
	slices.SortFunc(out, func(a, b founder) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

// promised refuses what is asked in another control term than the present one.
func promised(present, term uint64) error {
	switch {
	case term < present:
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "term %d of the control group is over, this is term %d", term, present)
	case term > present:
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "this server has not heard of term %d of the control group yet", term)
	default:
		return nil
	}
}

// accept is the state after a proposal of the present term. What is chosen stays.
func (f founding) accept(term uint64, founders []founder) founding {
	if f.Chosen {
		return f
	}
	return founding{Term: term, Founders: founders}
}

// learn is the state once founders are known to be chosen.
func (f founding) learn(founders []founder) (founding, error) {
	if f.Chosen && !slices.Equal(f.Founders, founders) {
		return f, wasmatrix.Errorf(wasmatrix.CodeInternal, "it begins with %v, and cannot with %v as well", f.Founders, founders)
	}
	return founding{Term: f.Term, Founders: founders, Chosen: true}, nil
}

// decision is what a leader makes of the answers.
type decision struct {
	value  []founder // to be proposed, or chosen already; nil for neither
	chosen bool
	wait   string // why there is no value, in words that do not change while nothing does
	// absent says that nothing is chosen and can be, but by this leader: it may
	// change who votes.
	absent bool
}

// decide makes the decision. Proposed is what this leader has proposed in this
// term, if anything. Unable are the voters that do not know the group.
func decide(voters []Server, answers map[wasmatrix.ServerID]founding, unable map[wasmatrix.ServerID]bool, proposed []founder) decision {
	var latest founding
	var silent, cannot []string
	for _, v := range voters {
		f, ok := answers[v.ID]
		switch {
		case f.Chosen:
			return decision{value: f.Founders, chosen: true}
		case ok && f.Term > latest.Term:
			latest = f
		case !ok && unable[v.ID]:
			cannot = append(cannot, nameOf(v.ID))
		case !ok:
			silent = append(silent, nameOf(v.ID))
		}
	}
	if proposed != nil {
		return decision{value: proposed}
	}
	heard := len(voters) - len(silent)
	wait := ""
	if len(silent) > 0 {
		slices.Sort(silent)
		wait = "no answer from " + strings.Join(silent, ", ")
	}
	if len(cannot) > 0 {
		slices.Sort(cannot)
		wait = strings.TrimPrefix(wait+"; the group is unknown to "+strings.Join(cannot, ", "), "; ")
	}
	switch {
	case heard <= len(voters)/2:
		return decision{wait: wait}
	case latest.Term > 0:
		return decision{value: latest.Founders}
	case wait != "":
		return decision{wait: wait, absent: true}
	default:
		return decision{value: foundersOf(voters)}
	}
}

// acceptor is a server's part in founding a group.
type acceptor struct {
	mu   sync.Mutex // held over the look at the term and what follows from it
	kept founding   // as on disk
}

// resume reads what was accepted, and opens the group if it has begun.
func (h *HostedGroup) resume() error {
	line, err := h.c.identity.Group(h.conf.Name)
	if err != nil || line == "" {
		return err
	}
	a := &h.acceptor
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := json.Unmarshal([]byte(line), &a.kept); err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "what is kept of group %s is damaged: %w", h.conf.Name, err)
	}
	return h.begin(a.kept)
}

// keep writes what was accepted. A server that cannot write must not go on.
func (h *HostedGroup) keep(f founding) error {
	line, err := json.Marshal(f)
	if err == nil {
		err = h.c.identity.SetGroup(h.conf.Name, string(line))
	}
	if err != nil {
		if h.c.ctx.Err() == nil {
			h.c.fatal(err)
		}
		return err
	}
	h.acceptor.kept = f
	return nil
}

// begin opens the group, if f says that it has begun.
func (h *HostedGroup) begin(f founding) error {
	if !f.Chosen {
		return nil
	}
	founders := make([]group.Server, 0, len(f.Founders))
	for _, s := range f.Founders {
		founders = append(founders, group.Server{ID: s.ID, Addr: s.Addr, Voter: true})
	}
	return h.start(founders)
}

// prepare answers what this server has accepted.
func (h *HostedGroup) prepare(term uint64) (*response, error) {
	h.acceptor.mu.Lock()
	defer h.acceptor.mu.Unlock()
	if err := promised(h.c.controlTerm(), term); err != nil {
		return nil, err
	}
	f := h.acceptor.kept
	return &response{Founding: &f}, nil
}

// accept takes up a proposal.
func (h *HostedGroup) accept(term uint64, founders []founder) (*response, error) {
	a := &h.acceptor
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := promised(h.c.controlTerm(), term); err != nil {
		return nil, err
	}
	if err := h.keep(a.kept.accept(term, founders)); err != nil {
		return nil, err
	}
	return &response{}, nil
}

// learn takes note of what was chosen, and opens the group.
func (h *HostedGroup) learn(founders []founder) (*response, error) {
	a := &h.acceptor
	a.mu.Lock()
	defer a.mu.Unlock()
	f, err := a.kept.learn(founders)
	if err != nil {
		h.c.log.Error("a group has begun twice", "group", h.conf.Name, "error", err)
		return nil, err
	}
	if !a.kept.Chosen {
		if err := h.keep(f); err != nil {
			return nil, err
		}
	}
	if err := h.begin(f); err != nil {
		if h.c.ctx.Err() == nil {
			h.c.fatal(err)
		}
		return nil, err
	}
	return &response{}, nil
}

func (c *Cluster) controlTerm() uint64 { return c.control.group.Raft().CurrentTerm() }

// answerFounding answers the leader of the control group.
func (c *Cluster) answerFounding(req *request) (*response, error) {
	h := c.Group(req.Group)
	switch {
	case h == nil:
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "server %s does not host group %q", c.cfg.Name, req.Group)
	case req.Op == opPrepare:
		return h.prepare(req.Term)
	case len(req.Founders) == 0:
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "group %s cannot begin without servers", req.Group)
	case req.Op == opAccept:
		return h.accept(req.Term, req.Founders)
	default:
		return h.learn(req.Founders)
	}
}

// unknownGroup reports that a server answered, and cannot host the group.
func unknownGroup(err error) bool {
	refused, ok := errors.AsType[*controlError](err)
	return ok && refused.Code == wasmatrix.CodeInvalidRequest
}

// proposer is the control leader's part in founding a group, in one term.
type proposer struct {
	mu       sync.Mutex // of what follows; not held while others are asked
	term     uint64
	proposed []founder                   // in this term
	chosen   []founder                   // nil while that is not known
	knows    map[wasmatrix.ServerID]bool // has been told what is chosen
	unable   map[wasmatrix.ServerID]bool // does not host the group
}

// inTerm forgets what was of another term.
func (p *proposer) inTerm(term uint64) {
	if p.term != term {
		p.term, p.proposed, p.chosen = term, nil, nil
		p.knows, p.unable = make(map[wasmatrix.ServerID]bool), make(map[wasmatrix.ServerID]bool)
	}
}

// settle finds out whether the group has begun, and sees to it that it does. A
// reason to wait comes without an error where nothing is chosen, see decision.
// The caller leads the control group and holds its changing lock.
func (h *HostedGroup) settle(ctx context.Context) (chosen []founder, wait string, err error) {
	c := h.c
	leader := c.control.Leader()
	if !leader.Self {
		return nil, "", wasmatrix.Errorf(wasmatrix.CodeNotLeader, "server %s is not the leader", c.cfg.Name)
	}
	servers, settled := c.control.group.Members()
	if !settled {
		return nil, "", wasmatrix.Errorf(wasmatrix.CodeNoLeader, "a change of the servers is under way")
	}
	p := &h.proposer
	p.mu.Lock()
	p.inTerm(leader.Term)
	proposed, chosen := p.proposed, p.chosen
	p.mu.Unlock()
	if chosen != nil {
		return chosen, "", nil
	}
	voters := slices.DeleteFunc(servers, func(s Server) bool { return !s.Voter })
	req := request{Op: opPrepare, Group: h.conf.Name, Term: leader.Term}
	answers, unable := make(map[wasmatrix.ServerID]founding), make(map[wasmatrix.ServerID]bool)
	for id, a := range c.askAll(ctx, voters, req) {
		switch {
		case a.err == nil && a.Founding != nil:
			answers[id] = *a.Founding
		case unknownGroup(a.err):
			unable[id] = true
		}
	}
	d := decide(voters, answers, unable, proposed)
	p.mu.Lock()
	p.unable = unable
	if d.value != nil && !d.chosen {
		p.proposed = d.value // before anyone hears of it
	}
	p.mu.Unlock()
	switch {
	case d.absent:
		return nil, d.wait, nil
	case d.value == nil:
		return nil, "", wasmatrix.Errorf(wasmatrix.CodeCommunication, "%s", d.wait)
	case !d.chosen:
		req.Op, req.Founders = opAccept, d.value
		accepted := 0
		for _, a := range c.askAll(ctx, voters, req) {
			if a.err == nil {
				accepted++
			}
		}
		if accepted <= len(voters)/2 {
			return nil, "", wasmatrix.Errorf(wasmatrix.CodeCommunication, "%d of %d voters agree to begin", accepted, len(voters))
		}
		c.log.Info("a hosted group begins", "group", h.conf.Name, "servers", names(d.value))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.term == leader.Term {
		p.chosen = d.value
	}
	return d.value, "", nil
}

func names(founders []founder) []string {
	out := make([]string, 0, len(founders))
	for _, f := range founders {
		out = append(out, nameOf(f.ID))
	}
	return out
}

// tell tells those of the servers who do not know yet what is chosen, and returns
// how many of them all know, and how many cannot.
func (h *HostedGroup) tell(ctx context.Context, servers []Server, chosen []founder) (know, unable int) {
	p := &h.proposer
	p.mu.Lock()
	term := p.term
	rest := slices.DeleteFunc(slices.Clone(servers), func(s Server) bool { return p.knows[s.ID] })
	p.mu.Unlock()
	answers := h.c.askAll(ctx, rest, request{Op: opFound, Group: h.conf.Name, Founders: chosen})
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, a := range answers {
		if p.term == term {
			p.knows[id], p.unable[id] = a.err == nil, unknownGroup(a.err)
		}
	}
	for _, s := range servers {
		if p.knows[s.ID] {
			know++
		} else if p.unable[s.ID] {
			unable++
		}
	}
	return know, unable
}

// tendFounding is the control leader's work in one term: that the group begins,
// and that every server of the configuration knows.
func (h *HostedGroup) tendFounding(ctx context.Context, _ uint64) {
	said := ""
	for {
		wait, err := h.found(ctx)
		if err != nil {
			wait = err.Error()
		}
		if wait != "" && wait != said && ctx.Err() == nil {
			h.c.log.Info("a hosted group has not begun yet", "group", h.conf.Name, "reason", wait)
		}
		said = wait
		if !sleep(ctx, h.c.autopilot.ReconcileInterval) {
			return
		}
	}
}

func (h *HostedGroup) found(ctx context.Context) (wait string, err error) {
	c := h.c
	if h.allKnow(c.control.Servers()) {
		return "", nil
	}
	if err := c.control.lead(ctx); err != nil {
		return "", err
	}
	during, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	c.control.changing.Lock()
	chosen, wait, err := h.settle(during)
	c.control.changing.Unlock()
	if chosen == nil {
		return wait, err
	}
	h.tell(during, c.control.Servers(), chosen)
	return "", nil
}

// allKnow reports whether this leader has told all servers what was chosen.
func (h *HostedGroup) allKnow(servers []Server) bool {
	p := &h.proposer
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.chosen != nil && p.term == h.c.control.Leader().Term &&
		!slices.ContainsFunc(servers, func(s Server) bool { return !p.knows[s.ID] })
}

// mayRemove refuses the removal of a voter from the control group where it could
// cost the memory of how this group began, see founding. The lock as in settle.
func (h *HostedGroup) mayRemove(ctx context.Context, target wasmatrix.ServerID) error {
	chosen, _, err := h.settle(ctx)
	if err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "group %s is not settled yet: %w", h.conf.Name, err)
	}
	if chosen == nil {
		return nil
	}
	rest := slices.DeleteFunc(h.c.control.Servers(), func(s Server) bool { return s.ID == target || !s.Voter })
	if know, unable := h.tell(ctx, rest, chosen); len(rest) > unable && know <= (len(rest)-unable)/2 {
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "of the %d voters that would remain, %d know of group %s", len(rest), know, h.conf.Name)
	}
	return nil
}

// mayPromote refuses a vote in the control group to a server that does not know
// how this group began, see founding. The lock as in settle.
func (h *HostedGroup) mayPromote(ctx context.Context, s Server) error {
	chosen, _, err := h.settle(ctx)
	if err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "group %s is not settled yet: %w", h.conf.Name, err)
	}
	if chosen == nil {
		return nil
	}
	if know, unable := h.tell(ctx, []Server{s}, chosen); know+unable == 0 {
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "server %s does not answer for group %s", s.ID, h.conf.Name)
	}
	return nil
}
