package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// tick is the unit of CPU times in /proc, which Linux fixes at 1/100 s.
const tick = 10 * time.Millisecond

// cpu is the CPU time that this process and its servers have used. Where the
// machine is shared it says more than a rate does: nobody else's work is in it.
type cpu struct{ client, servers time.Duration }

func cpuOf(pids []int) cpu {
	var c cpu
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err == nil {
		c.client = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	}
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it ended; the load tells
		}
		// The name, in parentheses, may hold anything; utime and stime are the
		// 12th and 13th field after it.
		fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		for _, f := range fields[11:13] {
			if n, err := strconv.ParseInt(string(f), 10, 64); err == nil {
				c.servers += time.Duration(n) * tick
			}
		}
	}
	return c
}

// per says what each of n acknowledged writes took since before.
func (c cpu) per(before cpu, n int) string {
	if n == 0 {
		return "none was acknowledged"
	}
	d := time.Duration(n)
	return fmt.Sprintf("CPU each: client %s, servers %s", short((c.client-before.client)/d), short((c.servers-before.servers)/d))
}
