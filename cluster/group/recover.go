package group

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/wasmatrix/wasmatrix"
)

// PeersFile is what an operator puts into a group's directory while the server is
// stopped: it names the servers that the group is to consist of from now on. It
// is how a group that lost its majority for good goes on with what one survivor
// has; what only the others had acknowledged is lost. The file is a JSON list
// of objects with id, address and non_voter. It is removed once it is in force.
const PeersFile = "peers.json"

// recoverFrom makes the group that of the peers file, if there is one. The
// machine is left with a state that raft replaces when it starts, from the
// snapshot that this makes.
func (g *Group) recoverFrom(logs raft.LogStore, conf *raft.Config) error {
	path := filepath.Join(g.conf.Dir, PeersFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	servers, err := raft.ReadConfigJSON(path)
	if err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeValidation, "%s: %w", path, err)
	}
	if !hasVoter(servers, conf.LocalID) {
		return wasmatrix.Errorf(wasmatrix.CodeValidation, "%s does not name this server, %s, as a voter", path, conf.LocalID)
	}
	g.conf.Logger.Warn("making the group that of the peers file; what only other servers had acknowledged is lost", "file", path, "servers", len(servers.Servers))
	scratch := newMachine(g.conf.Machine, g.failure, new(atomic.Uint64))
	if err := raft.RecoverCluster(conf, scratch, logs, g.disk, g.snapshots, g.transport, servers); err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "recover the group from %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "the group was recovered, but its file cannot be removed: %w", err)
	}
	return nil
}

func hasVoter(c raft.Configuration, id raft.ServerID) bool {
	for _, s := range c.Servers {
		if s.ID == id && s.Suffrage == raft.Voter {
			return true
		}
	}
	return false
}
