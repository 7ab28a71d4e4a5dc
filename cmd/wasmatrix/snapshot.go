package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/fsm"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// snapshotPiece is the size of what is sent of a snapshot at once, in bytes.
const snapshotPiece = 256 << 10

func (c *cli) snapshotCommand() *cobra.Command {
	return group("snapshot", "Save, restore and inspect the replicated state",
		`A snapshot holds the replicated state: instances, nodes, assignments, facts. The
bytes of modules are not in it.`,
		c.snapshotSaveCommand(), c.snapshotRestoreCommand(), c.snapshotInspectCommand())
}

func (c *cli) snapshotSaveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "save FILE",
		Short: "Save a snapshot to a file",
		Long: `Save a snapshot of the leader's state. The file appears under its name only once
it is complete, verified and on disk; an older one of that name is replaced.`,
		Example: "  wasmatrix cluster snapshot save backup.snap",
		Args:    wants("FILE"),
		RunE: c.call(func(ctx context.Context, cl *client.Client, args []string) error {
			info, err := saveSnapshot(ctx, cl, args[0])
			if err != nil {
				return err
			}
			return c.showSnapshot(args[0], info)
		}),
	}
}

// saveSnapshot writes beside the file, verifies, synchronises and renames.
func saveSnapshot(ctx context.Context, cl *client.Client, path string) (info fsm.SnapshotInfo, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return info, unreadable(filepath.Dir(path), err)
	}
	defer func() {
		_ = tmp.Close() // closed already where all went well
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	if err := receiveSnapshot(ctx, cl, tmp); err != nil {
		return info, err
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return info, diskError(err)
	}
	if info, err = fsm.InspectSnapshot(bufio.NewReaderSize(tmp, 1<<20)); err != nil {
		return info, about("the snapshot as it arrived", err)
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return info, diskError(err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return info, diskError(err)
	}
	return info, syncDir(filepath.Dir(path))
}

func receiveSnapshot(ctx context.Context, cl *client.Client, to io.Writer) error {
	stream, err := cl.Cluster.SaveSnapshot(ctx, &api.SaveSnapshotRequest{})
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		if _, err := to.Write(stream.Msg().GetData()); err != nil {
			return diskError(err)
		}
	}
	return stream.Err()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return diskError(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return diskError(err)
	}
	return nil
}

func diskError(err error) error { return wasmatrix.Errorf(wasmatrix.CodeStorage, "%w", err) }

func (c *cli) snapshotRestoreCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Replace the state of the whole cluster with a snapshot",
		Long: `Replace the replicated state of the whole cluster with that of a snapshot. What
happened since the snapshot was saved is lost. The file is verified first.`,
		Example: "  wasmatrix cluster snapshot restore --force backup.snap",
		Args:    wants("FILE"),
	}
	cmd.Flags().BoolVar(&force, "force", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !force && !c.inTTY {
			return usagef("cluster snapshot restore replaces the state of the whole cluster: say --force where nobody can be asked")
		}
		return c.call(func(ctx context.Context, cl *client.Client, args []string) error {
			return c.restoreSnapshot(ctx, cl, args[0], force)
		})(cmd, args)
	}
	return cmd
}

func (c *cli) restoreSnapshot(ctx context.Context, cl *client.Client, path string, force bool) error {
	f, err := os.Open(path)
	if err != nil {
		return unreadable(path, err)
	}
	defer f.Close()
	info, err := fsm.InspectSnapshot(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		return about(path, err)
	}
	if !force {
		fmt.Fprintf(c.err, "This replaces the state of the whole cluster with that of %s:\n%d instances, saved at index %d, %s.\nWrite \"yes\" to go on: ",
			path, info.Counts.Instances, info.Index, snapshotTime(info))
		answer, err := bufio.NewReader(c.in).ReadString('\n')
		if err != nil || strings.TrimSpace(answer) != "yes" {
			return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "not confirmed; nothing was changed")
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return diskError(err)
	}
	res, err := sendSnapshot(ctx, cl, f)
	if err != nil {
		return err
	}
	if c.json() {
		return c.writeJSON(res)
	}
	out := &fields{}
	out.add("State hash", res.GetStateHash())
	out.add("Index", count(res.GetIndex()))
	return out.write(c.out)
}

func sendSnapshot(ctx context.Context, cl *client.Client, from io.Reader) (*api.RestoreSnapshotResponse, error) {
	stream, err := cl.Cluster.RestoreSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, snapshotPiece)
	for {
		n, err := io.ReadFull(from, buf)
		if n > 0 {
			if err := stream.Send(&api.RestoreSnapshotRequest{Data: buf[:n]}); err != nil {
				break // the answer says why
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			// Without its end the snapshot is not accepted.
			_, _ = stream.CloseAndReceive()
			return nil, diskError(err)
		}
	}
	return stream.CloseAndReceive()
}

func (c *cli) snapshotInspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "inspect FILE",
		Short:   "Verify a snapshot and show what is in it",
		Long:    "Read a whole snapshot, verify it, and show what is in it. No server is asked.",
		Example: "  wasmatrix cluster snapshot inspect backup.snap",
		Args:    wants("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return unreadable(args[0], err)
			}
			defer f.Close()
			info, err := fsm.InspectSnapshot(bufio.NewReaderSize(f, 1<<20))
			if err != nil {
				return about(args[0], err)
			}
			return c.showSnapshot(args[0], info)
		},
	}
}

func snapshotTime(info fsm.SnapshotInfo) string {
	return info.Now.Std().Local().Format(time.RFC3339)
}

func (c *cli) showSnapshot(path string, info fsm.SnapshotInfo) error {
	n := info.Counts
	if c.json() {
		b, err := json.Marshal(map[string]any{
			"file": path, "bytes": info.Bytes, "stateHash": hex.EncodeToString(info.Hash[:]), "index": info.Index,
			"clusterId": info.Cluster, "time": info.Now.Std(), "formatVersion": info.FormatVersion, "version": info.ProductVersion,
			"counts": map[string]uint64{
				"instances": n.Instances, "nodes": n.Nodes, "modules": n.Modules, "providers": n.Providers,
				"assignments": n.Assignments, "crashes": n.Crashes, "requests": n.Requests, "facts": n.Facts,
			},
		})
		if err != nil {
			return err
		}
		return c.writeIndented(b)
	}
	f := &fields{}
	f.add("File", path)
	f.add("Size", wasmatrix.FormatBytes(uint64(info.Bytes)))
	f.add("State hash", hex.EncodeToString(info.Hash[:]))
	f.add("Index", count(info.Index))
	f.add("Cluster", string(info.Cluster))
	f.add("Time", snapshotTime(info))
	f.add("Format", fmt.Sprintf("%d, written by %s", info.FormatVersion, info.ProductVersion))
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
	return f.write(c.out)
}
