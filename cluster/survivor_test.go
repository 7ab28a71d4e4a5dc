package cluster

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/group"
)

// TestASurvivorGoesOnInAllGroups by the peers file of the control group, also when the
// process ended between the one group and the other. A file that is refused, and then
// taken away, leaves nothing behind.
func TestASurvivorGoesOnInAllGroups(t *testing.T) {
	a := start(t, "a", 3, hosting)
	b := start(t, "b", 3, joining(a), hosting)
	c := start(t, "c", 3, joining(a), hosting)
	all := []*testServer{a, b, c}
	kvLeader(t, all...)
	kvWrite(t, "one", all...)
	kvHolds(t, "one", all...)
	for _, s := range all {
		s.kill()
	}
	control, hosted := filepath.Join(a.cfg.DataDir, controlDir, group.PeersFile), filepath.Join(a.cfg.DataDir, "raft-kv", group.PeersFile)
	put := func(path string, id string) {
		t.Helper()
		peers, err := json.Marshal([]map[string]any{{"id": id, "address": "127.0.0.1:1", "non_voter": false}})
		if err == nil {
			err = os.WriteFile(path, peers, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	gone := func(path string) {
		t.Helper()
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
	put(control, "nobody.12345678")
	if err := a.tryOpen(); wasmatrix.CodeOf(err) != wasmatrix.CodeValidation {
		t.Fatalf("a file that does not name this server: %v", err)
	}
	gone(hosted)
	self := string(a.Identity().Server)
	put(control, self)
	a.open()
	kvLeader(t, a)
	kvHolds(t, "one", a)
	kvWrite(t, "two", a)
	gone(control)
	gone(hosted)
	// The end between the two: the control group has taken its file over.
	a.kill()
	put(hosted, self)
	a.open()
	kvLeader(t, a)
	kvHolds(t, "two", a)
	gone(hosted)
}
