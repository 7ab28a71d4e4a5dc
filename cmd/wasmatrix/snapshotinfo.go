package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability/kv/store"
	"github.com/wasmatrix/wasmatrix/fsm"
)

// snapshotGroup is a Raft group whose state can be saved: that of the control plane,
// "", or one that servers host for a provider.
type snapshotGroup string

const groupKV snapshotGroup = "kv"

// register adds the flag that names a group.
func (g *snapshotGroup) register(cmd *cobra.Command) {
	cmd.Flags().StringVar((*string)(g), "group", "", `"kv" for the data of the embedded kv (default: the state of the control plane)`)
	completeFlag(cmd, "group", cobra.FixedCompletions([]string{string(groupKV)}, cobra.ShellCompDirectiveNoFileComp))
}

func (g *snapshotGroup) check() error {
	if *g != "" && *g != groupKV {
		return usagef("--group: unknown group %q: kv, or nothing for the control plane", string(*g))
	}
	return nil
}

// holds says what a snapshot of the group is of.
func (g *snapshotGroup) holds() string {
	if *g == groupKV {
		return "the data of the embedded kv"
	}
	return "the state"
}

// inspect reads a whole snapshot of the group and verifies it.
func (g *snapshotGroup) inspect(r io.Reader) (snapshotInfo, error) {
	if *g == groupKV {
		info, err := store.Inspect(r)
		return kvSnapshot(info), err
	}
	info, err := fsm.InspectSnapshot(r)
	return stateSnapshot(info), err
}

// snapshotInfo is what a snapshot was found to hold.
type snapshotInfo interface {
	// document is for JSON.
	document() map[string]any
	// add adds what is to be shown of it.
	add(f *fields)
	// String says in few words what would be restored.
	String() string
}

// snapshotTime is the time of a state in the zone of the reader.
func snapshotTime(t wasmatrix.Time) string { return t.Std().Local().Format(time.RFC3339) }

// stateSnapshot is of the control plane.
type stateSnapshot fsm.SnapshotInfo

func (s stateSnapshot) String() string {
	return fmt.Sprintf("%d instances, saved at index %d, %s", s.Counts.Instances, s.Index, snapshotTime(s.Now))
}

func (s stateSnapshot) document() map[string]any {
	n := s.Counts
	return map[string]any{
		"bytes": s.Bytes, "stateHash": hex.EncodeToString(s.Hash[:]), "index": s.Index,
		"clusterId": s.Cluster, "time": s.Now.Std(), "formatVersion": s.FormatVersion, "version": s.ProductVersion,
		"counts": map[string]uint64{
			"instances": n.Instances, "nodes": n.Nodes, "modules": n.Modules, "providers": n.Providers,
			"assignments": n.Assignments, "crashes": n.Crashes, "requests": n.Requests, "facts": n.Facts,
		},
	}
}

func (s stateSnapshot) add(f *fields) {
	f.add("Size", wasmatrix.FormatBytes(uint64(s.Bytes)))
	f.add("State hash", hex.EncodeToString(s.Hash[:]))
	f.add("Index", count(s.Index))
	f.add("Cluster", string(s.Cluster))
	f.add("Time", snapshotTime(s.Now))
	f.add("Format", fmt.Sprintf("%d, written by %s", s.FormatVersion, s.ProductVersion))
	n := s.Counts
	for _, k := range []struct {
		name string
		n    uint64
	}{
		{"Instances", n.Instances},
		{"Nodes", n.Nodes},
		{"Modules", n.Modules},
		{"Providers", n.Providers},
		{"Assignments", n.Assignments},
		{"Crashes", n.Crashes},
		{"Requests", n.Requests},
		{"Facts", n.Facts},
	} {
		f.add(k.name, count(k.n))
	}
}

// kvSnapshot is of the embedded kv.
type kvSnapshot store.Info

func (s kvSnapshot) String() string {
	return fmt.Sprintf("%d keys in %d namespaces, saved at index %d, %s", s.Entries, s.Namespaces, s.Index, snapshotTime(s.Now))
}

func (s kvSnapshot) document() map[string]any {
	return map[string]any{
		"group": groupKV, "bytes": s.Bytes, "stateHash": hex.EncodeToString(s.Hash[:]), "index": s.Index,
		"time": s.Now.Std(), "formatVersion": s.SchemaVersion, "version": s.ProductVersion, "revision": s.Revision,
		"counts": map[string]uint64{
			"namespaces": uint64(s.Namespaces), "keys": s.Entries, "fences": uint64(s.Fences), "writes": uint64(s.Writes),
		},
	}
}

func (s kvSnapshot) add(f *fields) {
	f.add("Group", string(groupKV))
	f.add("Size", wasmatrix.FormatBytes(uint64(s.Bytes)))
	f.add("State hash", hex.EncodeToString(s.Hash[:]))
	f.add("Index", count(s.Index))
	f.add("Time", snapshotTime(s.Now))
	f.add("Format", fmt.Sprintf("%d, written by %s", s.SchemaVersion, s.ProductVersion))
	f.add("Revision", count(s.Revision))
	f.add("Namespaces", count(uint64(s.Namespaces)))
	f.add("Keys", count(s.Entries))
	f.add("Fences", count(uint64(s.Fences)))
	f.add("Writes", count(uint64(s.Writes)))
}
