package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// retryPause is between attempts to find a leader that does what is asked.
const retryPause = 100 * time.Millisecond

// Join contacts gossip addresses and returns how many answered; see
// [gossip.Gossip.Join]. The leader takes this server in soon after.
func (c *Cluster) Join(ctx context.Context, addrs []string) (int, error) {
	return c.gossip.Load().Join(ctx, addrs)
}

// Leave goes for good: it hands leadership over and has this server removed from
// the configuration, in each hosted group and then in the control group, and
// tells the others. It blocks until that is done or ctx ends. The last voter
// stays in its configurations and only tells the others.
//
// Errors: CONFLICT where those that remain would not be a majority of what
// remains, NO_LEADER or TIMEOUT where nobody is known to have removed it. It goes
// on then, is taken into the groups again that it has left already, and finds out
// like any other whether it was removed after all. Close it after success.
func (c *Cluster) Leave(ctx context.Context) error {
	self := c.identity.Server()
	member, lastVoter := false, true
	for _, s := range c.control.Servers() {
		member = member || s.ID == self
		lastVoter = lastVoter && s.Voter == (s.ID == self)
	}
	c.setLeaving(true)
	if member && !lastVoter {
		err := c.leaveHosted(ctx)
		if err == nil {
			err = c.control.removeThroughLeader(ctx, self)
		}
		if err != nil {
			c.setLeaving(false)
			return err
		}
		c.log.Info("this server has left the configuration")
	}
	// There is no way back from here, whatever becomes of ctx: a process that went
	// on would be a server of no group.
	if err := c.gossip.Load().Leave(context.WithoutCancel(ctx)); err != nil {
		c.log.Warn("the others were not told that this server leaves; they will find it gone", "error", err)
	}
	return nil
}

// leaveHosted has this server removed from the hosted groups, while it still
// helps to make their majorities. Nobody adds it again while it says that it is
// leaving.
func (c *Cluster) leaveHosted(ctx context.Context) error {
	for _, h := range c.hosted {
		if h.running() == nil {
			continue
		}
		if err := h.removeThroughLeader(ctx, c.identity.Server()); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) setLeaving(v bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = v
}

// removeThroughLeader has target removed from the group by whoever leads it, and
// first gives leadership away where that is target, which is this server.
func (h *HostedGroup) removeThroughLeader(ctx context.Context, target wasmatrix.ServerID) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	for {
		err := h.tryRemove(ctx, target)
		code := wasmatrix.CodeOf(err)
		if refused, ok := errors.AsType[*controlError](err); ok {
			code, err = refused.Code, refused.err()
		}
		switch code {
		case "":
			return nil
		case wasmatrix.CodeNotLeader, wasmatrix.CodeNoLeader, wasmatrix.CodeCommunication:
		default:
			return err
		}
		select {
		case <-h.c.ctx.Done():
			return wasmatrix.Errorf(wasmatrix.CodeNoLeader, "this server is closing")
		case <-ctx.Done():
			return wasmatrix.Errorf(wasmatrix.CodeNoLeader, "no leader removed server %s from group %s in time: %w", target, h.conf.Name, err)
		case <-time.After(retryPause):
		}
	}
}

func (h *HostedGroup) tryRemove(ctx context.Context, target wasmatrix.ServerID) error {
	l := h.Leader()
	switch {
	case l.Self && target == l.ID && h == h.c.control:
		// Checked before, so as not to change leaders for nothing.
		if err := h.checkRemoval(ctx, target); err != nil {
			return err
		}
		if _, err := h.TransferLeadership(ctx, ""); err != nil {
			return err
		}
		return wasmatrix.Errorf(wasmatrix.CodeNotLeader, "leadership was handed over")
	case l.Self:
		return h.removeServer(ctx, target)
	}
	_, err := h.askLeader(ctx, request{Op: opRemove, Target: target})
	return err
}

// RemovePeer removes a server from the configuration by its ID or its name, and
// returns its ID. It is for the leader, which may name itself: it hands
// leadership over first. Errors: NODE_NOT_FOUND, NOT_LEADER, and CONFLICT where
// those that remain would not be a majority.
func (c *Cluster) RemovePeer(ctx context.Context, idOrName string) (wasmatrix.ServerID, error) {
	if err := c.control.lead(ctx); err != nil {
		return "", c.control.hint(err)
	}
	s, err := c.control.find(idOrName)
	if err != nil {
		return "", err
	}
	m, _ := c.member(s.ID)
	c.expel(s.ID, m.Started)
	if s.ID == c.identity.Server() {
		err = c.control.removeThroughLeader(ctx, s.ID)
	} else {
		err = c.control.removeServer(ctx, s.ID)
	}
	if err != nil {
		c.expel(s.ID, 0)
		return "", c.control.hint(err)
	}
	c.log.Info("removed a server", "server", s.ID)
	return s.ID, nil
}

// expel remembers that the process that started then is not to be let in again;
// 0 forgets it.
func (c *Cluster) expel(id wasmatrix.ServerID, started int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if started == 0 {
		delete(c.expelled, id)
	} else {
		c.expelled[id] = started
	}
}

// find returns the server of the configuration with this ID or name.
func (h *HostedGroup) find(idOrName string) (Server, error) {
	for _, s := range h.Servers() {
		if string(s.ID) == idOrName || nameOf(s.ID) == idOrName {
			return s, nil
		}
	}
	return Server{}, wasmatrix.Errorf(wasmatrix.CodeNodeNotFound, "no server %q is in the configuration of group %s", idOrName, h.conf.Name)
}

// removeServer removes a server as the leader. One that is not in the
// configuration is removed already.
func (h *HostedGroup) removeServer(ctx context.Context, target wasmatrix.ServerID) error {
	if err := h.lead(ctx); err != nil {
		return err
	}
	if h != h.c.control {
		return h.retire(ctx, target)
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	s, ok := find(h.Servers(), target)
	if !ok {
		return nil
	}
	if target == h.c.identity.Server() {
		return wasmatrix.Errorf(wasmatrix.CodeNotLeader, "server %s leads and is to hand over before it goes", target)
	}
	if err := h.checkRemoval(ctx, target); err != nil {
		return err
	}
	if !s.Voter {
		return h.group.RemoveServer(ctx, target, 0)
	}
	if err := h.c.mayChangeVoters(func(p *proposer, term uint64, voters []Server) error {
		return p.mayRemove(ctx, term, voters, target)
	}); err != nil {
		return err
	}
	return h.group.RemoveServer(ctx, target, 0)
}

// checkRemoval refuses a removal after which the servers that answer would be
// no majority: it could not even be committed, and all would stand still.
func (h *HostedGroup) checkRemoval(ctx context.Context, target wasmatrix.ServerID) error {
	var rest []Server
	voter := false
	for _, s := range h.Servers() {
		switch {
		case s.ID == target:
			voter = s.Voter
		case s.Voter:
			rest = append(rest, s)
		}
	}
	if !voter {
		return nil
	}
	if len(rest) == 0 {
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "server %s is the last voter of group %s", target, h.conf.Name)
	}
	n := 0
	for _, st := range h.c.fetchStats(ctx, rest) {
		if _, open := st.Groups[h.conf.Name]; open || h == h.c.control {
			n++
		}
	}
	if n <= len(rest)/2 {
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "without server %s only %d of %d voters of group %s would answer: that is no majority", target, n, len(rest), h.conf.Name)
	}
	return nil
}

// TransferLeadership hands leadership to a voter named by ID or name, or to the
// one that is furthest for "", and returns the new leader once this server
// knows it. It is for the leader. Naming the leader itself changes nothing.
// COMMUNICATION_FAILURE where another than the one named was elected.
func (h *HostedGroup) TransferLeadership(ctx context.Context, idOrName string) (wasmatrix.ServerID, error) {
	g, err := h.asked()
	if err != nil {
		return "", err
	}
	self := h.c.identity.Server()
	before := h.Leader()
	if !before.Self {
		return "", h.hint(wasmatrix.Errorf(wasmatrix.CodeNotLeader, "server %s is not the leader of group %s", h.c.cfg.Name, h.conf.Name))
	}
	var target wasmatrix.ServerID
	if idOrName != "" {
		s, err := h.find(idOrName)
		switch {
		case err != nil:
			return "", err
		case !s.Voter:
			return "", wasmatrix.Errorf(wasmatrix.CodeConflict, "server %s is not a voter yet", s.ID)
		case s.ID == self:
			return self, nil
		}
		target = s.ID
	}
	if err := g.TransferLeadership(ctx, target); err != nil {
		return "", h.hint(err)
	}
	ticker := time.NewTicker(retryPause / 5)
	defer ticker.Stop()
	for {
		if l := h.Leader(); l.Known && (l.ID != self || l.Term > before.Term) {
			if target != "" && l.ID != target {
				return l.ID, wasmatrix.Errorf(wasmatrix.CodeCommunication, "leadership was given up, but server %s was elected, not %s", l.ID, target)
			}
			return l.ID, nil
		}
		select {
		case <-ctx.Done():
			return "", wasmatrix.Errorf(wasmatrix.CodeTimeout, "leadership was handed over, but the new leader is not known yet: %w", ctx.Err()).
				With(wasmatrix.DetailOutcome, wasmatrix.OutcomeCommitted)
		case <-h.c.ctx.Done():
			return "", wasmatrix.Errorf(wasmatrix.CodeNoLeader, "this server is closing")
		case <-ticker.C:
		}
	}
}
