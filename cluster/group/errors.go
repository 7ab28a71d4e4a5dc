package group

import (
	"context"
	"errors"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
)

// DetailLeaderID is the key of [wasmatrix.Error.Details] under which NOT_LEADER
// names the leader's [wasmatrix.ServerID].
const DetailLeaderID = "leader_id"

func withOutcome(e *wasmatrix.Error, outcome string) *wasmatrix.Error {
	return e.With(wasmatrix.DetailOutcome, outcome)
}

// notLeader is the error of a request that had no effect because this server
// does not lead.
func (g *Group) notLeader() *wasmatrix.Error {
	l := g.Leader()
	if !l.Known || l.Self {
		return withOutcome(wasmatrix.Errorf(wasmatrix.CodeNoLeader, "group %s has no leader at the moment", g.conf.Name), wasmatrix.OutcomeNone)
	}
	e := wasmatrix.Errorf(wasmatrix.CodeNotLeader, "server %s leads group %s, not this one", l.ID, g.conf.Name)
	return withOutcome(e, wasmatrix.OutcomeNone).With(DetailLeaderID, string(l.ID))
}

// ended is the error of requests to a group that failed or was closed.
func (g *Group) ended(outcome string) *wasmatrix.Error {
	if cause := g.failure.cause(); cause != nil {
		return withOutcome(wasmatrix.Errorf(wasmatrix.CodeStorage, "this server has failed: %w", cause), outcome)
	}
	return withOutcome(wasmatrix.Errorf(wasmatrix.CodeCommunication, "this server is shutting down"), outcome)
}

func timedOut(cause error, outcome string) *wasmatrix.Error {
	return withOutcome(wasmatrix.Errorf(wasmatrix.CodeTimeout, "the request ended before its answer came: %w", cause), outcome)
}

// translate maps what raft answers to a request that changes something. Only
// those that are known not to have been appended have no effect for certain.
// ErrAbortedByRestore is not one of them: its entry is in the log, and is
// committed after all where the restore fails or the leader is lost during it.
func (g *Group) translate(err error) error {
	if err == nil {
		return nil
	}
	if g.failure.failed() {
		return g.ended(wasmatrix.OutcomeUnknown)
	}
	if e, ok := errors.AsType[*wasmatrix.Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeader):
		return g.notLeader()
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return withOutcome(wasmatrix.Errorf(wasmatrix.CodeNoLeader, "group %s is handing over its leadership", g.conf.Name), wasmatrix.OutcomeNone)
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return withOutcome(wasmatrix.Errorf(wasmatrix.CodeNoLeader, "the leader of group %s takes nothing at the moment", g.conf.Name), wasmatrix.OutcomeNone)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrAbortedByRestore), errors.Is(err, raft.ErrRaftShutdown):
		return withOutcome(wasmatrix.Errorf(wasmatrix.CodeCommunication, "group %s: %w", g.conf.Name, err), wasmatrix.OutcomeUnknown)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return timedOut(err, wasmatrix.OutcomeUnknown)
	case errors.Is(err, raft.ErrCantBootstrap):
		return withOutcome(wasmatrix.Errorf(wasmatrix.CodeConflict, "group %s has been bootstrapped already", g.conf.Name), wasmatrix.OutcomeNone)
	case strings.HasPrefix(err.Error(), "configuration changed since"): // raft has no value for it
		return withOutcome(wasmatrix.Errorf(wasmatrix.CodeConflict, "the servers of group %s have changed in the meantime: %w", g.conf.Name, err), wasmatrix.OutcomeNone)
	default:
		return withOutcome(wasmatrix.Errorf(wasmatrix.CodeStorage, "group %s: %w", g.conf.Name, err), wasmatrix.OutcomeUnknown)
	}
}
