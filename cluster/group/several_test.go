package group

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
)

// TestSeveralGroupsShareAListener runs a second group over the listeners of a
// first: each has its own log and its own leader, and the loss of a server is
// survived by both.
func TestSeveralGroupsShareAListener(t *testing.T) {
	c := newCluster(t, 3, nil)
	second := &cluster{tb: t, addrs: c.addrs}
	for _, p := range c.peers {
		conf := p.conf
		conf.Name, conf.Dir = "second", filepath.Join(p.conf.Dir, "second")
		machine := &register{}
		conf.Machine = machine
		g, err := Open(conf)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = g.transport.Close() // before the listener under it goes
			_ = g.Close()
		})
		second.peers = append(second.peers, &peer{tb: t, conf: conf, machine: machine, stream: p.stream, fatal: p.fatal, Group: g})
	}
	second.bootstrap()
	for i := range 10 {
		c.must(fmt.Sprintf("first %d", i))
		second.must(fmt.Sprintf("second %d", i))
	}
	for _, p := range c.peers {
		eventually(t, "all of the first group's commands at "+string(p.conf.ID), func() bool { return len(p.machine.all()) >= 10 })
		if slices.ContainsFunc(p.machine.all(), func(s string) bool { return s[0] != 'f' }) {
			t.Errorf("the first group has commands of the second: %q", p.machine.all())
		}
	}
	for _, p := range second.peers {
		eventually(t, "all of the second group's commands at "+string(p.conf.ID), func() bool { return len(p.machine.all()) >= 10 })
		if slices.ContainsFunc(p.machine.all(), func(s string) bool { return s[0] != 's' }) {
			t.Errorf("the second group has commands of the first: %q", p.machine.all())
		}
	}
	lost := c.leader()
	i := slices.Index(c.peers, lost)
	_ = second.peers[i].transport.Close()
	_ = second.peers[i].Close()
	second.peers[i].Group = nil
	lost.stop()
	c.must("first after the loss")
	second.must("second after the loss")
}
