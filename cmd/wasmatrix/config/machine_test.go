package config

import (
	"testing"
	"testing/fstest"

	"github.com/wasmatrix/wasmatrix"
)

func TestMachineMemory(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	const meminfo = "MemTotal:       16777216 kB\nMemFree:         1234 kB\n"
	for _, tt := range []struct {
		name string
		fs   fstest.MapFS
		want uint64
	}{
		{"nothing", fstest.MapFS{}, 0},
		{"machine", fstest.MapFS{"proc/meminfo": file(meminfo)}, 16 << 30},
		{"damaged", fstest.MapFS{"proc/meminfo": file("MemTotal: lots kB\n"), "proc/self/cgroup": file("::\n0\n")}, 0},
		{"v2 without a limit", fstest.MapFS{
			"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/a\n"), "sys/fs/cgroup/a/memory.max": file("max\n"),
		}, 16 << 30},
		{"v2 limit of a group around", fstest.MapFS{
			"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/a/b\n"),
			"sys/fs/cgroup/a/b/memory.max": file("max\n"), "sys/fs/cgroup/a/memory.max": file("1073741824\n"),
		}, 1 << 30},
		{"v2 in a namespace", fstest.MapFS{
			"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("2147483648\n"),
		}, 2 << 30},
		{"v2 limit above the machine", fstest.MapFS{
			"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("99999999999999\n"),
		}, 16 << 30},
		{"v1", fstest.MapFS{
			"proc/meminfo": file(meminfo), "proc/self/cgroup": file("5:cpu:/x\n4:memory:/docker/1\n"),
			"sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": file("536870912\n"),
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes":        file("1\n"),
		}, 512 << 20},
	} {
		if got := machineMemory(tt.fs); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	if got := defaultMemory(); got < wasmatrix.WasmPage || got%(1<<20) != 0 {
		t.Errorf("default memory is %d", got)
	}
}

func TestNameOfHost(t *testing.T) {
	for host, want := range map[string]string{
		"web-1": "web-1", "web.example.org": "web.example.org", "": "agent", "-x": "x", "höst 1": "h-st-1", "...": "agent",
	} {
		if got := nameOf(host); got != want {
			t.Errorf("%q becomes %q, want %q", host, got, want)
		}
		if err := wasmatrix.ValidateName("name", nameOf(host)); err != nil {
			t.Error(err)
		}
	}
}
