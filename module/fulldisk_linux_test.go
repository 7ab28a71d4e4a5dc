package module_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/module"
)

// envFullDisk makes this test binary a process that uses a store on a disk of
// its own, in the directory named.
const envFullDisk = "WASMATRIX_TEST_FULL_DISK"

// TestStoreOnAFullDisk mounts a small disk in a namespace of a child process,
// so that nothing of it is left however the test ends.
func TestStoreOnAFullDisk(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), envFullDisk+"="+t.TempDir())
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

func onFullDisk(dir string) (exit int) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
		fmt.Println("mount:", err)
		return 1
	}
	fail := func(args ...any) { fmt.Println(args...); exit = 1 }
	s, err := module.OpenStore(module.Config{Dir: dir})
	if err != nil {
		fail(err)
		return exit
	}
	small, big := bytes.Repeat([]byte("a"), 60_000), bytes.Repeat([]byte("b"), 100_000)
	ctx := context.Background()
	if err := s.Write(ctx, wasmatrix.DigestOf(small), int64(len(small)), bytes.NewReader(small)); err != nil {
		fail("what fits:", err)
	}
	err = s.Write(ctx, wasmatrix.DigestOf(big), int64(len(big)), bytes.NewReader(big))
	if wasmatrix.CodeOf(err) != wasmatrix.CodeStorage || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		fail("what does not fit:", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		fail("left on the disk:", entries, err)
	}
	if got, err := s.Read(wasmatrix.DigestOf(small)); err != nil || !bytes.Equal(got, small) {
		fail("what was there before:", len(got), err)
	}
	if err := s.Remove(wasmatrix.DigestOf(small)); err != nil {
		fail(err)
	}
	if err := s.Write(ctx, wasmatrix.DigestOf(big), int64(len(big)), bytes.NewReader(big)); err != nil {
		fail("once there is room:", err)
	}
	return exit
}
