package group

import (
	"fmt"
	"os"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// founded opens servers that all begin the same group.
func founded(t *testing.T, n int, tune func(*Config)) *cluster {
	t.Helper()
	c := newPeers(t, n, tune) // the addresses are known once they listen
	founders := c.servers()
	for _, p := range c.peers {
		p.stop()
		if err := os.RemoveAll(p.conf.Dir); err != nil {
			t.Fatal(err)
		}
		p.conf.Founders = founders
	}
	return c
}

func TestAllFoundersBeginTheSameGroup(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		c := founded(t, 3, func(conf *Config) { conf.LogStore = kind })
		for _, p := range c.peers {
			p.open()
		}
		for i := range 5 {
			c.must(fmt.Sprint("word ", i))
		}
		// With a log, what it says is of no account.
		for _, p := range c.peers {
			p.stop()
			p.conf.Founders = p.conf.Founders[:1]
		}
		for _, p := range c.peers {
			p.open()
		}
		c.must("again")
		for _, p := range c.peers {
			eventually(t, "all three at "+string(p.conf.ID), func() bool {
				servers, settled := p.Members()
				return len(servers) == 3 && settled
			})
		}
		// Who is no founder begins nothing.
		d := c.add("d.00000003", func(conf *Config) { conf.LogStore, conf.Founders = kind, c.servers()[:3] })
		if d.HasState() {
			t.Error("a server that is no founder began a log")
		}
	})
}

// TestACrashWhileAGroupBegins leaves the term on disk that raft writes before the
// first entry.
func TestACrashWhileAGroupBegins(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		c := founded(t, 1, func(conf *Config) { conf.LogStore = kind })
		p := c.peers[0]
		s, err := openStore(p.conf.Dir, kind, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.stable.SetUint64([]byte("CurrentTerm"), 1); err != nil {
			t.Fatal(err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		p.open()
		c.must("after the crash")
		var first raft.Log
		if err := p.disk.GetLog(1, &first); err != nil || first.Term != 1 || first.Type != raft.LogConfiguration {
			t.Errorf("the first entry is %+v, %v", first, err)
		}
	})
}
