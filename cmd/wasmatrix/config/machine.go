package config

import (
	"bufio"
	"bytes"
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/wasmatrix/wasmatrix"
)

// fallbackMemory is what a machine is taken to have that does not tell, in bytes.
const fallbackMemory = 2560 << 20

// defaultName is the host's name, with what a name may not have replaced.
func defaultName() string {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return nameOf(host)
}

func nameOf(host string) string {
	name := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '.' || r == '_' {
			return r
		}
		return '-'
	}, host)
	name = strings.TrimLeft(name, "-._")
	if len(name) > 64 {
		name = name[:64]
	}
	if wasmatrix.ValidateName("name", name) != nil {
		return "agent"
	}
	return name
}

// What is left of the machine's memory beside these is for the runtime.

// defaultMemory is 80 % of the memory that this process may use, in whole MiB.
func defaultMemory() uint64 { return partOfMemory(80, 64<<20, math.MaxUint64) }

// defaultModuleMemory is 10 %, at most 1 GiB.
func defaultModuleMemory() uint64 { return partOfMemory(10, 32<<20, 1<<30) }

// defaultLogTotal is 5 %, at most 1 GiB.
func defaultLogTotal() uint64 { return partOfMemory(5, 16<<20, 1<<30) }

// partOfMemory is so many percent of the memory that this process may use, in
// whole MiB between least and most.
func partOfMemory(percent, least, most uint64) uint64 {
	total := machineMemory(os.DirFS("/"))
	if total == 0 {
		total = fallbackMemory
	}
	return min(max(total/100*percent, least), most) >> 20 << 20
}

// machineMemory returns the smaller of the machine's memory and the limits of
// the control groups that the process is in; 0 where root has neither.
func machineMemory(root fs.FS) uint64 {
	least := uint64(math.MaxUint64)
	for _, limit := range append(cgroupLimits(root), physicalMemory(root)) {
		if limit > 0 {
			least = min(least, limit)
		}
	}
	if least == math.MaxUint64 {
		return 0
	}
	return least
}

// physicalMemory reads proc(5) meminfo.
func physicalMemory(root fs.FS) uint64 {
	b, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		fields := strings.Fields(string(line))
		if len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseUint(fields[1], 10, 40)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

// cgroupLimits reads the limits of the process's groups and of those around
// them, as cgroups(7) of both versions lays them out.
func cgroupLimits(root fs.FS) []uint64 {
	b, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	var limits []uint64
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		parts := strings.SplitN(sc.Text(), ":", 3)
		if len(parts) != 3 {
			continue
		}
		base, file := "sys/fs/cgroup", "memory.max"
		if parts[0] != "0" {
			if parts[1] != "memory" {
				continue
			}
			base, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		for dir := path.Clean("/" + parts[2]); ; dir = path.Dir(dir) {
			if b, err := fs.ReadFile(root, path.Join(base, dir, file)); err == nil {
				if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil {
					limits = append(limits, n) // "max" is no number
				}
			}
			if dir == "/" {
				break
			}
		}
	}
	return limits
}
