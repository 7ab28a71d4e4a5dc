package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/client"
)

// snapshotPiece is the size of what is sent of a snapshot at once, in bytes.
const snapshotPiece = 256 << 10

func (c *cli) snapshotCommand() *cobra.Command {
	return group("snapshot", "Save, restore and inspect the replicated state",
		`A snapshot holds the replicated state: instances, nodes, assignments, facts. The
bytes of modules are not in it, nor is what guests keep in the embedded kv, of which
a snapshot is made by itself, with --group kv.`,
		c.snapshotSaveCommand(), c.snapshotRestoreCommand(), c.snapshotInspectCommand())
}

func (c *cli) snapshotSaveCommand() *cobra.Command {
	var group snapshotGroup
	cmd := &cobra.Command{
		Use:   "save FILE",
		Short: "Save a snapshot to a file",
		Long: `Save a snapshot of the leader's state. The file appears under its name only once
it is complete, verified and on disk; an older one of that name is replaced.`,
		Example: `  wasmatrix cluster snapshot save backup.snap
  wasmatrix cluster snapshot save --group kv data.snap`,
		Args: wants("FILE"),
	}
	group.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := group.check(); err != nil {
			return err
		}
		return c.call(func(ctx context.Context, cl *client.Client, args []string) error {
			info, err := saveSnapshot(ctx, cl, group, args[0])
			if err != nil {
				return err
			}
			return c.showSnapshot(args[0], info)
		})(cmd, args)
	}
	return cmd
}

// saveSnapshot writes beside the file, verifies, synchronises and renames.
func saveSnapshot(ctx context.Context, cl *client.Client, group snapshotGroup, path string) (info snapshotInfo, err error) {
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
	if err := receiveSnapshot(ctx, cl, group, tmp); err != nil {
		return info, err
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return info, diskError(err)
	}
	if info, err = group.inspect(bufio.NewReaderSize(tmp, 1<<20)); err != nil {
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

func receiveSnapshot(ctx context.Context, cl *client.Client, group snapshotGroup, to io.Writer) error {
	stream, err := cl.Cluster.SaveSnapshot(ctx, &api.SaveSnapshotRequest{Group: string(group)})
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
	var group snapshotGroup
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Replace the state of the whole cluster with a snapshot",
		Long: `Replace the replicated state of the whole cluster with that of a snapshot, or with
--group kv the data of the embedded kv. What happened since the snapshot was saved
is lost. The file is verified first.`,
		Example: `  wasmatrix cluster snapshot restore --force backup.snap
  wasmatrix cluster snapshot restore --force --group kv data.snap`,
		Args: wants("FILE"),
	}
	group.register(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := group.check(); err != nil {
			return err
		}
		if !force && !c.inTTY {
			return usagef("cluster snapshot restore replaces %s of the whole cluster: say --force where nobody can be asked", group.holds())
		}
		return c.call(func(ctx context.Context, cl *client.Client, args []string) error {
			return c.restoreSnapshot(ctx, cl, group, args[0], force)
		})(cmd, args)
	}
	return cmd
}

func (c *cli) restoreSnapshot(ctx context.Context, cl *client.Client, group snapshotGroup, path string, force bool) error {
	f, err := os.Open(path)
	if err != nil {
		return unreadable(path, err)
	}
	defer f.Close()
	info, err := group.inspect(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		return about(path, err)
	}
	if !force {
		fmt.Fprintf(c.err, "This replaces %s of the whole cluster with that of %s:\n%s.\nWrite \"yes\" to go on: ", group.holds(), path, info)
		answer, err := bufio.NewReader(c.in).ReadString('\n')
		if err != nil || strings.TrimSpace(answer) != "yes" {
			return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "not confirmed; nothing was changed")
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return diskError(err)
	}
	res, err := sendSnapshot(ctx, cl, group, f)
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

func sendSnapshot(ctx context.Context, cl *client.Client, group snapshotGroup, from io.Reader) (*api.RestoreSnapshotResponse, error) {
	stream, err := cl.Cluster.RestoreSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, snapshotPiece)
	req := &api.RestoreSnapshotRequest{Group: string(group)}
	for {
		n, err := io.ReadFull(from, buf)
		if n > 0 {
			req.Data = buf[:n]
			if err := stream.Send(req); err != nil {
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
	var group snapshotGroup
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Verify a snapshot and show what is in it",
		Long:  "Read a whole snapshot, verify it, and show what is in it. No server is asked.",
		Example: `  wasmatrix cluster snapshot inspect backup.snap
  wasmatrix cluster snapshot inspect --group kv data.snap`,
		Args: wants("FILE"),
	}
	group.register(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if err := group.check(); err != nil {
			return err
		}
		f, err := os.Open(args[0])
		if err != nil {
			return unreadable(args[0], err)
		}
		defer f.Close()
		info, err := group.inspect(bufio.NewReaderSize(f, 1<<20))
		if err != nil {
			return about(args[0], err)
		}
		return c.showSnapshot(args[0], info)
	}
	return cmd
}

// showSnapshot shows what a snapshot in a file holds.
func (c *cli) showSnapshot(path string, info snapshotInfo) error {
	if c.json() {
		doc := info.document()
		doc["file"] = path
		b, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		return c.writeIndented(b)
	}
	f := &fields{}
	f.add("File", path)
	info.add(f)
	return f.write(c.out)
}
