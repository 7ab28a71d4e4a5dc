//go:build !linux

package compile

import (
	"runtime/debug"
	"time"
)

// isolate does nothing here.
func isolate() {}

// lowerLater does nothing here.
func lowerLater(time.Duration) {}

// wallFactor is 1 where nothing bounds a child's CPU time.
const wallFactor = 1

// limit makes the collector keep to the memory, which is all that every system
// lets a process ask of itself.
func limit(req *request) error {
	if req.Memory > 0 {
		debug.SetMemoryLimit(int64(req.Memory / 4 * 3))
	}
	return nil
}

var processBegan = time.Now()

// cpuTime is that of the wall here.
func cpuTime() time.Duration { return time.Since(processBegan) }
