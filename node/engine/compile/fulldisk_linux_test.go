package compile

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/wasmatrix/wasmatrix"
)

// TestAFullDiskIsNotTheModulesFault mounts a small disk in a namespace of another
// process, so that nothing of it is left however the test ends.
func TestAFullDiskIsNotTheModulesFault(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], verbFullDisk, t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	switch {
	case cmd.Process == nil, strings.HasPrefix(string(out), "mount:"):
		t.Skipf("no mounts for users here: %v %s", err, out)
	case err != nil:
		t.Errorf("%v: %s", err, out)
	}
}

// onFullDisk compiles a module on a disk that has room for less and less of what
// is to be written, and at last for all.
func onFullDisk(dir string) (exit int) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		fmt.Println("mount:", err)
		return 1
	}
	fail := func(args ...any) { fmt.Println(args...); exit = 1 }
	defer func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			fail("unmount:", err)
		}
	}()
	c, err := Open(Config{Dir: filepath.Join(dir, "cache"), Command: []string{os.Args[0], Verb}})
	if err != nil {
		fail(err)
		return exit
	}
	defer c.Close()
	ctx := context.Background()
	src := module(custom("large", make([]byte, 20<<10)))
	src = append(src, functions(append(make([]byte, 1, 9002), append([]byte(strings.Repeat("\x41\x00\x1a", 3000)), 0x0b)...))[8:]...)
	load := func() error {
		return c.Load(ctx, wasmatrix.DigestOf(src), give(src), func(*Artifact) error { return nil })
	}
	filler := filepath.Join(dir, "filler")
	const page = 4 << 10
	failed := 0
	for room := 0; room < 128*page; room += page {
		if err := fill(dir, filler, room); err != nil {
			fail(err)
			break
		}
		err := load()
		if err == nil {
			break
		}
		failed++
		if wasmatrix.CodeOf(err) != wasmatrix.CodeStorage {
			fail("with room for", room, "bytes:", err)
		}
	}
	// The source, what the meter made of it, the code, and the manifest.
	if failed < 8 {
		fail("it failed", failed, "times")
	}
	if err := os.Remove(filler); err != nil {
		fail(err)
	}
	if err := load(); err != nil {
		fail("with room:", err)
	}
	return exit
}

// fill makes a file take all of the disk but room.
func fill(dir, filler string, room int) error {
	if err := os.WriteFile(filler, nil, 0o600); err != nil {
		return err
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return err
	}
	return os.WriteFile(filler, make([]byte, max(0, int(s.Bavail)*int(s.Bsize)-room)), 0o600)
}
