package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/group"
)

// retryPause is between attempts to find a leader that does what is asked.
const retryPause = 100 * time.Millisecond

// Join contacts gossip addresses and returns how many answered; see
// [gossip.Gossip.Join]. The leader takes this server in soon after.
func (c *Cluster) Join(ctx context.Context, addrs []string) (int, error) {
	return c.gossip.Load().Join(ctx, addrs)
}

// Leave goes for good: it hands leadership over, has this server removed from
// the configuration, and tells the others. It blocks until that is done or ctx
// ends. The last voter stays in its configuration and only tells the others.
//
// Errors: CONFLICT where those that remain would not be a majority of what
// remains, NO_LEADER or TIMEOUT where nobody is known to have removed it. It goes
// on then, and finds out like any other whether it was removed after all. Close
// it after success.
func (c *Cluster) Leave(ctx context.Context) error {
	self := c.identity.Server()
	member, lastVoter := false, true
	for _, s := range c.servers() {
		member = member || s.ID == self
		lastVoter = lastVoter && s.Voter == (s.ID == self)
	}
	c.setLeaving(true)
	if member && !lastVoter {
		if err := c.removeThroughLeader(ctx, self); err != nil {
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

func (c *Cluster) setLeaving(v bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = v
}

// removeThroughLeader has target removed by whoever leads, and first gives
// leadership away where that is target, which is this server.
func (c *Cluster) removeThroughLeader(ctx context.Context, target wasmatrix.ServerID) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	for {
		err := c.tryRemove(ctx, target)
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
		case <-ctx.Done():
			return wasmatrix.Errorf(wasmatrix.CodeNoLeader, "no leader removed server %s in time: %w", target, err)
		case <-time.After(retryPause):
		}
	}
}

func (c *Cluster) tryRemove(ctx context.Context, target wasmatrix.ServerID) error {
	l := c.group.Leader()
	switch {
	case l.Self && target == l.ID:
		// Checked before, so as not to change leaders for nothing.
		if err := c.checkRemoval(ctx, target); err != nil {
			return err
		}
		if _, err := c.TransferLeadership(ctx, ""); err != nil {
			return err
		}
		return wasmatrix.Errorf(wasmatrix.CodeNotLeader, "leadership was handed over")
	case l.Self:
		return c.removeServer(ctx, target)
	}
	_, err := c.askLeader(ctx, request{Op: opRemove, Target: target})
	return err
}

// RemovePeer removes a server from the configuration by its ID or its name, and
// returns its ID. It is for the leader, which may name itself: it hands
// leadership over first. Errors: NODE_NOT_FOUND, NOT_LEADER, and CONFLICT where
// those that remain would not be a majority.
func (c *Cluster) RemovePeer(ctx context.Context, idOrName string) (wasmatrix.ServerID, error) {
	if err := c.lead(ctx); err != nil {
		return "", c.hint(err)
	}
	s, err := c.find(idOrName)
	if err != nil {
		return "", err
	}
	m, _ := c.member(s.ID)
	c.expel(s.ID, m.Started)
	if s.ID == c.identity.Server() {
		err = c.removeThroughLeader(ctx, s.ID)
	} else {
		err = c.removeServer(ctx, s.ID)
	}
	if err != nil {
		c.expel(s.ID, 0)
		return "", c.hint(err)
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
func (c *Cluster) find(idOrName string) (group.Server, error) {
	for _, s := range c.servers() {
		if string(s.ID) == idOrName || nameOf(s.ID) == idOrName {
			return s, nil
		}
	}
	return group.Server{}, wasmatrix.Errorf(wasmatrix.CodeNodeNotFound, "no server %q is in the configuration", idOrName)
}

// removeServer removes a server as the leader. One that is not in the
// configuration is removed already.
func (c *Cluster) removeServer(ctx context.Context, target wasmatrix.ServerID) error {
	if err := c.lead(ctx); err != nil {
		return err
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	if !c.inConfiguration(target) {
		return nil
	}
	if target == c.identity.Server() {
		return wasmatrix.Errorf(wasmatrix.CodeNotLeader, "server %s leads and is to hand over before it goes", target)
	}
	if err := c.checkRemoval(ctx, target); err != nil {
		return err
	}
	return c.group.RemoveServer(ctx, target, 0)
}

// checkRemoval refuses a removal after which the servers that answer would be
// no majority: it could not even be committed, and all would stand still.
func (c *Cluster) checkRemoval(ctx context.Context, target wasmatrix.ServerID) error {
	var rest []group.Server
	voter := false
	for _, s := range c.servers() {
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
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "server %s is the last voter", target)
	}
	ctx, cancel := context.WithTimeout(ctx, controlTimeout/2)
	defer cancel()
	if n := len(c.fetchStats(ctx, rest)); n <= len(rest)/2 {
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "without server %s only %d of %d voters would answer: that is no majority", target, n, len(rest))
	}
	return nil
}

// TransferLeadership hands leadership to a voter named by ID or name, or to the
// one that is furthest for "", and returns the new leader once this server
// knows it. It is for the leader. Naming the leader itself changes nothing.
// COMMUNICATION_FAILURE where another than the one named was elected.
func (c *Cluster) TransferLeadership(ctx context.Context, idOrName string) (wasmatrix.ServerID, error) {
	self := c.identity.Server()
	before := c.group.Leader()
	if !before.Self {
		return "", c.hint(wasmatrix.Errorf(wasmatrix.CodeNotLeader, "server %s is not the leader", c.cfg.Name))
	}
	var target wasmatrix.ServerID
	if idOrName != "" {
		s, err := c.find(idOrName)
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
	if err := c.group.TransferLeadership(ctx, target); err != nil {
		return "", c.hint(err)
	}
	ticker := time.NewTicker(retryPause / 5)
	defer ticker.Stop()
	for {
		if l := c.group.Leader(); l.Known && (l.ID != self || l.Term > before.Term) {
			if target != "" && l.ID != target {
				return l.ID, wasmatrix.Errorf(wasmatrix.CodeCommunication, "leadership was given up, but server %s was elected, not %s", l.ID, target)
			}
			return l.ID, nil
		}
		select {
		case <-ctx.Done():
			return "", wasmatrix.Errorf(wasmatrix.CodeTimeout, "leadership was handed over, but the new leader is not known yet: %w", ctx.Err()).
				With(wasmatrix.DetailOutcome, wasmatrix.OutcomeCommitted)
		case <-c.ctx.Done():
			return "", wasmatrix.Errorf(wasmatrix.CodeNoLeader, "this server is closing")
		case <-ticker.C:
		}
	}
}
