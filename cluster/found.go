package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/group"
)

// recall reads what this server has accepted.
func (h *HostedGroup) recall() error {
	line, err := h.c.identity.Group(h.conf.Name)
	if err != nil || line == "" {
		return err
	}
	if err := json.Unmarshal([]byte(line), &h.acceptor.kept); err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "what is kept of group %s is damaged: %w", h.conf.Name, err)
	}
	return nil
}

// resume opens the group if it has begun.
func (h *HostedGroup) resume() error {
	if !h.acceptor.kept.Chosen {
		return nil
	}
	return h.begin()
}

// save keeps what this server has accepted. One that cannot must not go on.
func (h *HostedGroup) save(f founding) error {
	line, err := json.Marshal(f)
	if err == nil {
		err = h.c.identity.SetGroup(h.conf.Name, string(line))
	}
	if err != nil && h.c.ctx.Err() == nil {
		h.c.fatal(err)
	}
	return err
}

// begin opens the group once it is known what was chosen.
func (h *HostedGroup) begin() error {
	a := &h.acceptor
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kept.Opened {
		// Without it this server would vote anew where it has voted.
		if _, err := os.Stat(h.dir); errors.Is(err, fs.ErrNotExist) {
			return wasmatrix.Errorf(wasmatrix.CodeStorage,
				"the log of group %s is gone from %s: remove this server from the cluster and let it join anew with an empty directory", h.conf.Name, h.dir)
		}
	}
	founders := make([]group.Server, 0, len(a.kept.Founders))
	for _, f := range a.kept.Founders {
		founders = append(founders, group.Server{ID: f.ID, Addr: f.Addr, Voter: true})
	}
	if err := h.start(founders); err != nil || a.kept.Opened {
		return err
	}
	opened := a.kept
	opened.Opened = true
	return a.keep(opened)
}

// answerFounding answers the leader of the control group.
func (c *Cluster) answerFounding(req *request) (*response, error) {
	h := c.Group(req.Group)
	switch {
	case h == nil:
		return nil, wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "server %s does not host group %q", c.cfg.Name, req.Group)
	case req.Op == opPrepare:
		f, err := h.acceptor.prepare(req.Term)
		return &response{Founding: &f}, err
	case len(req.Founders) == 0:
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "group %s cannot begin without servers", req.Group)
	case req.Op == opAccept:
		return &response{}, h.acceptor.accept(req.Term, req.Founders)
	}
	if err := h.acceptor.learn(req.Founders); err != nil {
		c.log.Error("cannot take note of how a hosted group begins", "group", req.Group, "from", req.From, "error", err)
		return nil, err
	}
	err := h.begin()
	if err != nil && c.ctx.Err() == nil {
		c.fatal(err)
	}
	return &response{}, err
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
			h.c.log.Info("a hosted group cannot begin yet", "group", h.conf.Name, "reason", wait)
		}
		said = wait
		if !sleep(ctx, h.c.autopilot.ReconcileInterval) {
			return
		}
	}
}

func (h *HostedGroup) found(ctx context.Context) (wait string, err error) {
	control := h.c.control
	if h.proposer.toldAll(control.Leader().Term, control.Servers()) {
		return "", nil
	}
	if err := control.lead(ctx); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	control.changing.Lock()
	term, voters, err := control.voters()
	var chosen []founder
	if err == nil {
		chosen, wait, err = h.proposer.settle(ctx, term, voters)
	}
	control.changing.Unlock()
	if err != nil || chosen == nil {
		return wait, err
	}
	h.proposer.tell(ctx, control.Servers(), chosen)
	return "", nil
}

// voters returns the group's voters, which are committed, and the term in which
// this server leads the group.
func (h *HostedGroup) voters() (term uint64, voters []Server, err error) {
	l := h.Leader()
	servers, settled := h.group.Members()
	switch {
	case !l.Self:
		return 0, nil, wasmatrix.Errorf(wasmatrix.CodeNotLeader, "server %s is not the leader of group %s", h.c.cfg.Name, h.conf.Name)
	case !settled:
		return 0, nil, wasmatrix.Errorf(wasmatrix.CodeNoLeader, "a change of the servers of group %s is under way", h.conf.Name)
	}
	return l.Term, slices.DeleteFunc(servers, func(s Server) bool { return !s.Voter }), nil
}

// mayChangeVoters refuses a change of the control group's voters that a hosted
// group could not bear, by what check says. The changing lock is held.
func (c *Cluster) mayChangeVoters(check func(p *proposer, term uint64, voters []Server) error) error {
	if len(c.hosted) == 0 {
		return nil
	}
	term, voters, err := c.control.voters()
	if err != nil {
		return err
	}
	for _, h := range c.hosted {
		if err := check(&h.proposer, term, voters); err != nil {
			return err
		}
	}
	return nil
}
