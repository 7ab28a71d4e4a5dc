package fsm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

var writeFixture = flag.String("write-fixture", "", "directory, which must not exist, to write a log and a snapshot of this release into")

// TestFixtures reads what earlier releases wrote: testdata/vN has a log, the
// snapshot of the state after it, and the state's hash with the version of its
// rules. They are kept for ever, as logs and snapshots in the field are: a new
// format gets a new directory, and none is ever written again.
func TestFixtures(t *testing.T) {
	if *writeFixture != "" {
		createFixture(t, *writeFixture)
	}
	dirs, err := filepath.Glob("testdata/v*")
	if err != nil || len(dirs) < SchemaVersion {
		t.Fatalf("there are fixtures in %v: %v", dirs, err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			read := func(name string) []byte {
				b, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			replayed := New(smallOptions)
			index := uint64(0)
			for raw := read("log"); len(raw) > 0; {
				cmd, n := protowire.ConsumeBytes(raw)
				if n < 0 {
					t.Fatal("the log is cut off")
				}
				raw = raw[n:]
				index++
				replayed.Apply(index, cmd)
			}
			if index < 100 {
				t.Fatalf("the log has %d commands", index)
			}
			restored := New(smallOptions)
			if err := restored.Restore(bytes.NewReader(read("snapshot"))); err != nil {
				t.Fatal(err)
			}
			h := replayed.State().Hash()
			if restored.State().Hash() != h || restored.State().Cluster() != replayed.State().Cluster() {
				t.Error("the log and the snapshot lead to different states")
			}
			var version int
			var want string
			if _, err := fmt.Sscan(string(read("hash")), &version, &want); err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(h[:]); got != want {
				t.Errorf("the log leads to state %s, and led to %s when it was written", got, want)
			}
			if v := restored.State().schema(); int(v) != version || filepath.Base(dir) != fmt.Sprintf("v%d", v) {
				t.Errorf("the state has version %d of the schema, its hash %d", v, version)
			}
			checkInvariants(t, restored.State(), smallOptions)
		})
	}
}

func createFixture(t *testing.T, dir string) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := rapid.Custom(func(t *rapid.T) *machine {
		var gen commandGen
		m := newMachine(t, smallOptions)
		gen.warm(m)
		for range 300 {
			m.do(gen.draw(t, m.fsm.State()))
		}
		return m
	}).Example(1)
	m.tb = t
	for _, c := range fullCommands() {
		if _, ok := c.(wasmatrix.CollectGarbage); !ok { // would leave too little
			m.do(c)
		}
	}
	provider := filled[wasmatrix.Provider](1)
	provider.Revision = 0
	m.do(wasmatrix.PutProvider{At: m.now, Provider: &provider})
	m.do(wasmatrix.PutProvider{At: m.now, Provider: &wasmatrix.Provider{ID: "store", Type: wasmatrix.ProviderKV}})
	for i := range m.fsm.State().Instances("") {
		if !i.Status.Final() {
			m.do(wasmatrix.AssignCapability{At: m.now, Assignment: &wasmatrix.Assignment{
				Instance: i.ID, ID: "full", Grant: wasmatrix.Grant{
					Type: wasmatrix.ProviderKV, Permissions: []wasmatrix.Permission{"kv:read"}, Provider: "store", Namespace: "shared", Stale: true,
				},
			}})
		}
	}
	var log []byte
	for _, c := range m.log {
		log = append(binary.AppendUvarint(log, uint64(len(c))), c...)
	}
	s := m.fsm.State()
	h := s.Hash()
	for name, b := range map[string][]byte{
		"log": log, "snapshot": snapshotOf(t, s), "hash": fmt.Appendf(nil, "%d %x\n", s.schema(), h),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("wrote %s: %s", dir, strings.TrimSpace(fmt.Sprintf("%+v", s.counts())))
}
