package group

import (
	"strconv"
	"time"

	"github.com/hashicorp/raft"
)

// Stats is how a group stands on this server.
type Stats struct {
	State       string // "Follower", "Candidate", "Leader" or "Shutdown"
	Term        uint64
	LastIndex   uint64        // of the log
	LastTerm    uint64        // of the last entry of the log
	Commit      uint64        // highest index known to be committed
	Applied     uint64        // highest index in the state
	Snapshot    uint64        // index of the newest snapshot
	LastContact time.Duration // since the leader was last heard; 0 on the leader, negative for never
	Voters      int
	Entries     uint64 // proposed here since the start
	Commands    uint64 // in them
	Queued      int    // commands that wait to be proposed
}

// Stats returns figures for people and for autopilot. They are not all of the
// same instant.
func (g *Group) Stats() Stats {
	all := g.raft.Stats()
	number := func(key string) uint64 {
		n, _ := strconv.ParseUint(all[key], 10, 64) // raft formats it
		return n
	}
	applied, _ := g.machine.position()
	s := Stats{
		State:     all["state"],
		Term:      number("term"),
		LastIndex: g.raft.LastIndex(),
		LastTerm:  number("last_log_term"),
		Commit:    number("commit_index"),
		Applied:   applied,
		Snapshot:  number("last_snapshot_index"),
		Entries:   g.entries.Load(),
		Commands:  g.commands.Load(),
		Queued:    g.queue.len(),
	}
	for _, v := range g.configuration().Servers {
		if v.Suffrage == raft.Voter {
			s.Voters++
		}
	}
	switch last := g.raft.LastContact(); {
	case s.State == raft.Leader.String():
	case last.IsZero():
		s.LastContact = -1
	default:
		s.LastContact = time.Since(last)
	}
	return s
}
