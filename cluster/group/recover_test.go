package group

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wasmatrix/wasmatrix"
)

// TestRecoverFromLostMajority goes on with one of three servers: all that it
// had is there, it leads alone, and the file is used once.
func TestRecoverFromLostMajority(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		c := newCluster(t, 3, func(conf *Config) { conf.LogStore = kind })
		for i := range 20 {
			c.must(fmt.Sprintf("before %d", i))
		}
		survivor := c.leader()
		want := survivor.machine.all()
		for _, p := range c.peers {
			p.stop()
		}

		path := filepath.Join(survivor.conf.Dir, PeersFile)
		write := func(id wasmatrix.ServerID) {
			body := fmt.Sprintf(`[{"id": %q, "address": %q, "non_voter": false}]`, id, survivor.bind)
			if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("other.00000000")
		wantCode(t, survivor.tryOpen(), wasmatrix.CodeValidation, "")

		write(survivor.conf.ID)
		survivor.open()
		if leader := c.leader(survivor); leader != survivor {
			t.Fatal("another leads")
		}
		if got := survivor.machine.all(); !slices.Equal(got[:len(want)], want) {
			t.Errorf("after the recovery: %q, before: %q", got, want)
		}
		if servers, _ := survivor.Servers(); len(servers) != 1 {
			t.Errorf("servers after the recovery: %v", servers)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the peers file is still there: %v", err)
		}
		if _, _, err := survivor.Propose(within30(t), []byte("after")); err != nil {
			t.Fatal(err)
		}
		survivor.stop()
		survivor.open()
		c.leader(survivor)
		if got := survivor.machine.all(); got[len(got)-1] != "after" {
			t.Errorf("after another restart: %q", got)
		}
	})
}
