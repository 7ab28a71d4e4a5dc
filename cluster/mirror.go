package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// seen is what a hosted group's leader knows of a server, as it answers.
type seen struct {
	open    bool // has the group open
	leaving bool
	current bool // is in touch with the leader, and has most of its log
}

// The changes that bring a hosted group's configuration nearer to the control
// group's.
const (
	changeNone   = ""
	changeAdd    = "add" // as a non-voter
	changeVote   = "give a vote to"
	changeRemove = "remove"
	changeLead   = "hand leadership to"
)

// change is one change of a configuration.
type change struct {
	what   string
	server Server
}

// nextChange plans one change of a hosted group's configuration, have, towards
// that of the control group, want. Self leads the hosted group.
//
// Servers that do not answer are removed before others are added, so that they
// count for no majority; those that answer are removed only when nobody is on the
// way to take their place. A leader that is to go hands over first, and removes
// nobody.
func nextChange(self wasmatrix.ServerID, want, have []Server, seen map[wasmatrix.ServerID]seen) change {
	want = slices.DeleteFunc(slices.Clone(want), func(s Server) bool { return seen[s.ID].leaving })
	_, stays := find(want, self)
	var dead, surplus, joining []Server
	for _, s := range have {
		if _, ok := find(want, s.ID); ok {
			continue
		}
		if seen[s.ID].open {
			surplus = append(surplus, s)
		} else {
			dead = append(dead, s)
		}
	}
	for _, w := range want {
		s, ok := find(have, w.ID)
		switch {
		case !stays && ok && s.Voter && seen[w.ID].current:
			return change{changeLead, s}
		case seen[w.ID].open && (!ok || w.Voter && !s.Voter):
			joining = append(joining, w)
		}
	}
	if stays && len(dead) > 0 {
		return change{changeRemove, dead[0]}
	}
	for _, w := range joining {
		if _, ok := find(have, w.ID); !ok {
			return change{changeAdd, w}
		}
		if seen[w.ID].current {
			return change{changeVote, w}
		}
	}
	if stays && len(surplus) > 0 && !slices.ContainsFunc(joining, func(s Server) bool { return s.Voter }) {
		return change{changeRemove, surplus[0]}
	}
	return change{}
}

// mirror is the work of a hosted group's leader in one term: the group's
// configuration follows that of the control group.
func (h *HostedGroup) mirror(ctx context.Context, _ uint64) {
	changed, stop := h.c.gossip.Load().Subscribe()
	defer stop()
	ticker := time.NewTicker(h.c.autopilot.ReconcileInterval)
	defer ticker.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			h.recordAddresses(ctx)
		case <-ticker.C:
		}
		for more := true; more; {
			during, cancel := context.WithTimeout(ctx, commitTimeout)
			done, err := h.follow(during, "")
			cancel()
			more = err == nil && done.what != changeNone
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != said && text != "" && ctx.Err() == nil {
				h.c.log.Warn("the servers of a hosted group were not changed", "group", h.conf.Name, "reason", text)
			}
			said = text
		}
	}
}

// follow makes one change, if there is one to make, and returns it. Leaving is a
// server that is going, though the control group still has it.
func (h *HostedGroup) follow(ctx context.Context, leaving wasmatrix.ServerID) (change, error) {
	c := h.c
	h.changing.Lock()
	defer h.changing.Unlock()
	want, settled := c.control.group.Members()
	have, ours := h.group.Members()
	if !settled || !ours {
		return change{}, nil
	}
	if leaving == "" && alike(want, have) {
		return change{}, nil
	}
	known := h.look(ctx, want, have)
	if leaving != "" {
		l := known[leaving]
		l.leaving = true
		known[leaving] = l
	}
	next := nextChange(c.identity.Server(), want, have, known)
	if next.what == changeNone {
		return next, nil
	}
	if err := h.change(ctx, next, leaving); err != nil {
		return next, err
	}
	c.log.Info("a hosted group follows the control group", "group", h.conf.Name, "change", next.what, "server", next.server.ID)
	return next, nil
}

func (h *HostedGroup) change(ctx context.Context, next change, leaving wasmatrix.ServerID) error {
	id, addr := next.server.ID, next.server.Addr
	switch next.what {
	case changeAdd:
		return h.group.AddNonvoter(ctx, id, addr, 0)
	case changeVote:
		return h.group.AddVoter(ctx, id, addr, 0)
	case changeLead:
		_, err := h.TransferLeadership(ctx, string(id))
		return err
	}
	// The control group's log may be behind here, and the server back again.
	if id != leaving {
		member, err := h.c.askIfMember(ctx, id)
		if err != nil {
			return err
		}
		if member {
			return wasmatrix.Errorf(wasmatrix.CodeCommunication, "server %s is in the control group again", id)
		}
	}
	if err := h.checkRemoval(ctx, id); err != nil {
		return err
	}
	return h.group.RemoveServer(ctx, id, 0)
}

// alike reports whether two configurations have the same voters and others.
func alike(a, b []Server) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(s Server) bool {
		t, ok := find(b, s.ID)
		return !ok || t.Voter != s.Voter
	})
}

// look asks the servers of two configurations how they are.
func (h *HostedGroup) look(ctx context.Context, want, have []Server) map[wasmatrix.ServerID]seen {
	all := slices.Clone(have)
	for _, s := range want {
		if _, ok := find(have, s.ID); !ok {
			all = append(all, s)
		}
	}
	own := h.logStats()
	pilot := h.c.autopilot
	out := make(map[wasmatrix.ServerID]seen, len(all))
	for id, st := range h.c.fetchStats(ctx, all) {
		log, open := st.Groups[h.conf.Name]
		out[id] = seen{
			open: open, leaving: st.Leaving,
			current: open && log.Term == own.Term && log.LastIndex+pilot.MaxTrailingLogs >= own.LastIndex &&
				log.LastContact >= 0 && log.LastContact <= pilot.LastContactThreshold,
		}
	}
	return out
}

// askIfMember asks the leader of the control group whether a server is in it.
func (c *Cluster) askIfMember(ctx context.Context, id wasmatrix.ServerID) (bool, error) {
	var resp *response
	var err error
	if c.control.Leader().Self {
		resp, err = c.control.isMember(ctx, id)
	} else {
		resp, err = c.control.askLeader(ctx, request{Op: opMember, Target: id})
	}
	return err == nil && resp.Member, err
}

// retire removes a server that is leaving the hosted group, and makes the changes
// before that which are to come first. This server leads the group.
func (h *HostedGroup) retire(ctx context.Context, target wasmatrix.ServerID) error {
	for h.has(target) {
		done, err := h.follow(ctx, target)
		switch {
		case err != nil:
			return err
		case done.what == changeLead:
			return wasmatrix.Errorf(wasmatrix.CodeNotLeader, "leadership of group %s was handed over", h.conf.Name)
		case done.what == changeNone:
			return wasmatrix.Errorf(wasmatrix.CodeNoLeader, "server %s cannot leave group %s before another has taken its place", target, h.conf.Name)
		}
	}
	return nil
}
