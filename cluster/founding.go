package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/wasmatrix/wasmatrix"
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
	// Opened says that the group was open here: its log must not be missing.
	Opened bool `json:"opened,omitempty"`
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
	term func() uint64        // of the control group, as it is on disk
	save func(founding) error // to disk

	mu   sync.Mutex // held over the look at the term and what follows from it
	kept founding
}

func (a *acceptor) keep(f founding) error {
	if err := a.save(f); err != nil {
		return err
	}
	a.kept = f
	return nil
}

// prepare returns what was accepted.
func (a *acceptor) prepare(term uint64) (founding, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kept, promised(a.term(), term)
}

// accept takes up a proposal. What is chosen stays.
func (a *acceptor) accept(term uint64, founders []founder) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := promised(a.term(), term); err != nil || a.kept.Chosen {
		return err
	}
	return a.keep(founding{Term: term, Founders: founders})
}

// learn takes note of what was chosen, in whatever term.
func (a *acceptor) learn(founders []founder) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !a.kept.Chosen:
		return a.keep(founding{Term: a.kept.Term, Founders: founders, Chosen: true})
	case !slices.Equal(a.kept.Founders, founders):
		return wasmatrix.Errorf(wasmatrix.CodeInternal, "the group began with %v, it cannot begin with %v", a.kept.Founders, founders)
	default:
		return nil
	}
}

// proposer is the control leader's part in founding a group. What it remembers
// is of one term.
type proposer struct {
	group string
	ask   func(ctx context.Context, servers []Server, req request) map[wasmatrix.ServerID]answer

	mu       sync.Mutex // of what follows; not held while others are asked
	term     uint64
	proposed []founder                   // in this term; there is no second proposal
	chosen   []founder                   // nil while that is not known
	knows    map[wasmatrix.ServerID]bool // has been told what is chosen
	unable   map[wasmatrix.ServerID]bool // does not know the group
}

// enter forgets what was of an earlier term.
func (p *proposer) enter(term uint64) (proposed, chosen []founder, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if term < p.term {
		return nil, nil, wasmatrix.Errorf(wasmatrix.CodeNotLeader, "term %d of the control group is over", term)
	}
	if term > p.term {
		p.term, p.proposed, p.chosen = term, nil, nil
		p.knows, p.unable = make(map[wasmatrix.ServerID]bool), make(map[wasmatrix.ServerID]bool)
	}
	return p.proposed, p.chosen, nil
}

// settle finds out what is chosen, and proposes where it may. Where nothing is
// chosen and nothing can be, so that voters may be changed, it returns why it
// waits, and no error. Calls come one at a time; voters are the committed ones
// and do not change meanwhile.
func (p *proposer) settle(ctx context.Context, term uint64, voters []Server) (chosen []founder, wait string, err error) {
	proposed, chosen, err := p.enter(term)
	if err != nil || chosen != nil {
		return chosen, "", err
	}
	req := request{Op: opPrepare, Group: p.group, Term: term}
	answers, unable := make(map[wasmatrix.ServerID]founding), make(map[wasmatrix.ServerID]bool)
	for id, a := range p.ask(ctx, voters, req) {
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
	if !d.chosen {
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
		for _, a := range p.ask(ctx, voters, req) {
			if a.err == nil {
				accepted++
			}
		}
		if accepted <= len(voters)/2 {
			return nil, "", wasmatrix.Errorf(wasmatrix.CodeCommunication, "%d of %d voters agree to begin", accepted, len(voters))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.chosen = d.value
	return d.value, "", nil
}

// tell tells those of the servers who have not been told what is chosen, and
// returns how many of them all know, and how many cannot.
func (p *proposer) tell(ctx context.Context, servers []Server, chosen []founder) (know, unable int) {
	p.mu.Lock()
	term := p.term
	rest := slices.DeleteFunc(slices.Clone(servers), func(s Server) bool { return p.knows[s.ID] })
	p.mu.Unlock()
	answers := p.ask(ctx, rest, request{Op: opFound, Group: p.group, Founders: chosen})
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

// toldAll reports whether the servers have all been told in this term.
func (p *proposer) toldAll(term uint64, servers []Server) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.chosen != nil && p.term == term &&
		!slices.ContainsFunc(servers, func(s Server) bool { return !p.knows[s.ID] })
}

// mayRemove refuses the removal of a voter where it could cost the memory of what
// was chosen: see founding. Called as settle is.
func (p *proposer) mayRemove(ctx context.Context, term uint64, voters []Server, target wasmatrix.ServerID) error {
	chosen, _, err := p.settle(ctx, term, voters)
	if err != nil || chosen == nil {
		return p.unsettled(err)
	}
	rest := slices.DeleteFunc(slices.Clone(voters), func(s Server) bool { return s.ID == target })
	know, unable := p.tell(ctx, rest, chosen)
	if able := len(rest) - unable; able > 0 && know <= able/2 {
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "of the %d voters that would remain, %d know of group %s", len(rest), know, p.group)
	}
	return nil
}

// mayPromote refuses a vote to a server that does not know what was chosen: see
// founding. Called as settle is.
func (p *proposer) mayPromote(ctx context.Context, term uint64, voters []Server, s Server) error {
	chosen, _, err := p.settle(ctx, term, voters)
	if err != nil || chosen == nil {
		return p.unsettled(err)
	}
	if know, unable := p.tell(ctx, []Server{s}, chosen); know+unable == 0 {
		return wasmatrix.Errorf(wasmatrix.CodeCommunication, "server %s does not know of group %s yet", s.ID, p.group)
	}
	return nil
}

// unsettled says for which group it is that voters cannot be changed.
func (p *proposer) unsettled(err error) error {
	if err == nil {
		return nil
	}
	return wasmatrix.Errorf(wasmatrix.CodeCommunication, "group %s is not settled yet: %w", p.group, err)
}

// unknownGroup reports that a server answered, and does not know the group.
func unknownGroup(err error) bool {
	refused, ok := errors.AsType[*controlError](err)
	return ok && refused.Code == wasmatrix.CodeInvalidRequest
}
