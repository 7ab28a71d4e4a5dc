package compile

import (
	"runtime/debug"
	"syscall"
	"time"
)

// lowerPriority lets everything else on the machine go first.
func lowerPriority() {
	// Neither is refused to a process that lowers itself; if it were, the
	// compilation would only be less considerate.
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19)
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}

// limitMemory bounds the address space of the process. The collector is told
// to keep the heap well below it.
func limitMemory(bytes uint64) error {
	if bytes == 0 {
		return nil
	}
	debug.SetMemoryLimit(int64(bytes / 4 * 3))
	return syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: bytes, Max: bytes})
}

// cpuTime is what the process has used so far, in all threads.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
