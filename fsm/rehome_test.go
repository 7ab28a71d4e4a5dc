package fsm

import (
	"bytes"
	"testing"

	"github.com/wasmatrix/wasmatrix"
)

func TestRehomeKeepsStateAndChangesCluster(t *testing.T) {
	f := New(Options{})
	for i, cmd := range []wasmatrix.Command{
		wasmatrix.InitCluster{At: 1, Cluster: "old"},
		wasmatrix.AddModule{At: 2, Module: &wasmatrix.Module{Digest: wasmatrix.Digest{1}, Size: 8, Kind: wasmatrix.ModuleCommand}, Name: "m"},
	} {
		b, err := Encode(cmd)
		if err != nil {
			t.Fatal(err)
		}
		f.Apply(uint64(i+1), b)
	}
	var old, moved bytes.Buffer
	if err := f.Snapshot()(&old); err != nil {
		t.Fatal(err)
	}
	hash, err := Rehome(&moved, bytes.NewReader(old.Bytes()), "new")
	if err != nil {
		t.Fatal(err)
	}
	if hash != f.State().Hash() {
		t.Error("the hash changed with the cluster")
	}
	g := New(Options{})
	if err := g.Restore(&moved); err != nil {
		t.Fatal(err)
	}
	if got := g.State().Cluster(); got != "new" {
		t.Errorf("cluster %q", got)
	}
	if _, ok := g.State().ModuleNamed("m"); !ok || g.State().Hash() != hash {
		t.Error("the state is not the one that was moved")
	}
	damaged := old.Bytes()
	damaged[len(damaged)/2] ^= 1
	var none bytes.Buffer
	if _, err := Rehome(&none, bytes.NewReader(damaged), "new"); err == nil || none.Len() != 0 {
		t.Errorf("a damaged snapshot: %v, %d bytes written", err, none.Len())
	}
}
