package gossip

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
)

// maxPeers bounds the file of remembered addresses: a few suffice to find the rest.
const maxPeers = 64

// loadPeers reads the remembered addresses. They are a hint: a file that cannot
// be read is logged and forgotten.
func (g *Gossip) loadPeers() []string {
	if g.cfg.PeersFile == "" {
		return nil
	}
	b, err := os.ReadFile(g.cfg.PeersFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var peers []string
	if err == nil {
		err = json.Unmarshal(b, &peers)
	}
	if err != nil {
		g.log.Warn("remembered peers are lost", "error", err)
		return nil
	}
	return peers[:min(len(peers), maxPeers)]
}

// savePeers writes the addresses of the members that are alive, servers first,
// unless there is none: who is alone keeps what it remembers. It returns what is
// remembered now.
func (g *Gossip) savePeers(known []string) []string {
	if g.cfg.PeersFile == "" {
		return nil
	}
	var peers []string
	for _, m := range g.Members() {
		if m.Status == StatusAlive && !m.Self && len(peers) < maxPeers {
			peers = append(peers, m.Addr)
		}
	}
	if g.alone() || slices.Equal(peers, known) {
		return known
	}
	b, err := json.Marshal(peers)
	if err == nil {
		tmp := g.cfg.PeersFile + ".tmp"
		if err = os.WriteFile(tmp, b, 0o600); err == nil {
			err = os.Rename(tmp, g.cfg.PeersFile)
		}
	}
	if err != nil {
		g.log.Warn("peers cannot be remembered", "error", err)
	}
	return peers
}
