package compile

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
)

// Of a processor that guests want, too, a child has a tenth at first, and a
// seventieth when it has shown that it takes long. At the lowest priority from the
// start, two guests that spin would make a small Go program's compilation last
// most of a minute.
const (
	niceFirst = 10
	niceLater = 19
)

// isolate takes from the process what it does not need. What is refused makes
// it less considerate of others, no more.
func isolate() {
	lowerPriority(niceFirst)
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	// Where the machine has no memory left, the node is not what is to go.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	closeInherited()
}

// lowerPriority sets the priority of all threads. That of a process is that of a
// thread here, but that of a group is that of all, and a child leads its own.
func lowerPriority(nice int) {
	if syscall.Getpgrp() == os.Getpid() {
		_ = syscall.Setpriority(syscall.PRIO_PGRP, 0, nice) // always granted, being lower
	}
}

// lowerLater gives the process the lowest priority when it has used some CPU
// time. It does not return before.
func lowerLater(after time.Duration) {
	for used := cpuTime(); used < after; used = cpuTime() {
		// No thread of the process is faster than a processor.
		time.Sleep(max((after-used)/time.Duration(runtime.NumCPU()), time.Millisecond))
	}
	lowerPriority(niceLater)
}

// closeInherited closes the files that outlived the execution of this program,
// but the first three: what the process has opened itself is closed on
// execution, as all files of Go are.
func closeInherited() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < 3 {
			continue
		}
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if errno == 0 && flags&syscall.FD_CLOEXEC == 0 {
			_ = syscall.Close(fd)
		}
	}
}

// limit bounds address space and CPU time of the process. The collector is told
// to keep the heap well below.
func limit(req *request) error {
	if req.CPU > 0 {
		if err := syscall.Setrlimit(syscall.RLIMIT_CPU, &syscall.Rlimit{Cur: req.CPU, Max: req.CPU}); err != nil {
			return err
		}
	}
	if req.Memory == 0 {
		return nil
	}
	// What the runtime reserves at its start is not used, and by far more with
	// the race detector.
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	pages, _, _ := bytes.Cut(b, []byte{' '})
	reserved, err := strconv.ParseUint(string(pages), 10, 64)
	if err != nil {
		return fmt.Errorf("size of the process: %w", err)
	}
	bound := reserved*uint64(os.Getpagesize()) + req.Memory
	debug.SetMemoryLimit(int64(req.Memory / 4 * 3))
	return syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: bound, Max: bound})
}

// wallFactor is how many times the timeout, which bounds its CPU time, a child may
// take when it has to wait for a processor.
const wallFactor = 4

// cpuTime is what the process has used so far, in all threads.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
