//go:build !linux

package compile

import (
	"runtime/debug"
	"time"
)

// lowerPriority does nothing here.
func lowerPriority() {}

// limitMemory makes the collector keep to a limit, which is all that this system
// offers the process itself.
func limitMemory(bytes uint64) error {
	if bytes > 0 {
		debug.SetMemoryLimit(int64(bytes / 4 * 3))
	}
	return nil
}

var processBegan = time.Now()

// cpuTime is that of the wall here.
func cpuTime() time.Duration { return time.Since(processBegan) }
