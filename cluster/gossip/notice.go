package gossip

import (
	"net"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// repeatAfter bounds how often the same complaint is logged.
const repeatAfter = time.Minute

// handleNotices says once a minute what was refused, and looks into rivals.
func (g *Gossip) handleNotices() {
	said := make(map[string]time.Time)
	again := func(key string) bool {
		if time.Since(said[key]) < repeatAfter {
			return false
		}
		if len(said) > 1000 {
			clear(said)
		}
		said[key] = time.Now()
		return true
	}
	for {
		select {
		case <-g.ctx.Done():
			return
		case n := <-g.notice:
			switch {
			case n.refused != nil:
				if again(n.name + n.refused.Error()) {
					g.log.Warn("refused a gossip member", "member", n.name, "reason", n.refused)
				}
			case n.rival != nil:
				g.checkRival(n, again)
			}
		}
	}
}

// checkRival asks an address that is said to have our name. Only a live process
// with that name answers: a record of our own past does not.
func (g *Gossip) checkRival(n notice, again func(string) bool) {
	if g.isOwn(n.rival) {
		return
	}
	if _, err := g.ml.Ping(g.name, n.rival); err != nil {
		return
	}
	own := g.Tags()
	err := wasmatrix.Errorf(wasmatrix.CodeConflict,
		"two live %ss are called %q: this one and one at %s (%s); names must be unique",
		own.Role, own.Name, n.rival, n.tags.Server).With("address", n.rival.String())
	if again(n.rival.String()) {
		g.log.Error("name conflict", "error", err)
	}
	if own.Started < n.tags.Started {
		return // the newcomer is to go
	}
	g.mu.Lock()
	first := !g.conflicted
	g.conflicted = true
	g.mu.Unlock()
	if first && g.cfg.OnConflict != nil {
		g.cfg.OnConflict(err)
	}
}

// isOwn reports whether addr is another address of this very socket.
func (g *Gossip) isOwn(addr *net.UDPAddr) bool {
	if g.local.Port != addr.Port {
		return false
	}
	if g.local.IP.Equal(addr.IP) {
		return true
	}
	bind, _, err := splitBind(g.cfg.Bind)
	if err != nil || !bind.IsUnspecified() {
		return false
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if ipnet, ok := a.(*net.IPNet); ok && ipnet.IP.Equal(addr.IP) {
			return true
		}
	}
	return false
}
