package wasmatrix_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/wasmatrix/wasmatrix"

// room is a folder and everything that its code may import besides the
// standard library and its own subpackages. Why says what the limits protect:
// it is printed when they are broken. The longest matching folder counts.
type room struct {
	dir   string
	allow []string // "." is the root package, "./x" a room, others are modules or packages
	why   string
}

var rooms = []room{
	{
		".", nil,
		"the root package is the vocabulary that all rooms share: whatever it imported, all of them would depend on",
	},
	{
		"fsm", []string{".", "./gen/log", "./snapfile", "github.com/tidwall/btree", "google.golang.org/protobuf"},
		"the state machine must give the same state on every peer: no network, no store, no clock can come in by an import",
	},
	{
		"snapfile", []string{".", "github.com/klauspost/compress", "google.golang.org/protobuf"},
		"the framing of snapshots is kept for ever and shared by state machines: it knows none of them, nor who stores or sends the files",
	},
	{
		"scheduler", []string{"."},
		"placement is a pure function of a snapshot: it is tested and measured without a cluster",
	},
	{
		"scheduler/dispatch", []string{".", "./scheduler", "github.com/hashicorp/go-hclog"},
		"the leader's loop meets the log, the state and the nodes through small interfaces, so that it runs against fakes in a bubble of time",
	},
	{
		"cluster", []string{
			".", "github.com/hashicorp/raft", "github.com/hashicorp/raft-boltdb/v2", "github.com/hashicorp/raft-wal",
			"github.com/hashicorp/raft-autopilot", "github.com/hashicorp/memberlist", "github.com/hashicorp/go-hclog",
			"github.com/hashicorp/go-metrics", "go.etcd.io/bbolt", "golang.org/x/sys",
		},
		"raft and memberlist are hidden here; what is replicated is none of its business, so that it can host any group",
	},
	{
		"module", []string{".", "github.com/hashicorp/go-hclog", "golang.org/x/sync"},
		"servers and nodes share the store of module bytes; it knows neither the network nor the engine",
	},
	{
		"node", []string{".", "./abi", "./capability", "./node/engine", "./node/cpu", "github.com/hashicorp/go-hclog", "golang.org/x/sync"},
		"a worker reaches the control plane through an interface, so that it goes on without one; only its engine knows wazero",
	},
	{
		"node/engine", []string{
			".", "./abi", "./capability", "./node/meter", "./node/cpu",
			"github.com/tetratelabs/wazero", "github.com/hashicorp/go-hclog", "golang.org/x/sync", "golang.org/x/sys",
		},
		"wazero is hidden here, so that an upgrade or a change of engine touches one folder",
	},
	{
		"node/meter", []string{"."},
		"rewriting a module is a pure function of its bytes: it is fuzzed, and compared with what it was given, without an engine",
	},
	{
		"node/cpu", []string{},
		"sharing cores among guests knows neither modules nor instances: it is tested in a bubble of time",
	},
	{
		"capability", []string{".", "./abi", "github.com/hashicorp/go-hclog", "golang.org/x/time"},
		"the contract and the gate know no provider's technology: what is checked at every call stays small enough to be read",
	},
	{
		"capability/kv", []string{
			".", "./abi", "./capability", "./gen/kv", "./snapfile", "github.com/tidwall/btree", "google.golang.org/protobuf",
			"github.com/redis/go-redis/v9", "github.com/hashicorp/go-hclog",
		},
		"the store is replicated by whoever hosts it, and reached over whatever carries calls: it knows neither raft nor rpc",
	},
	{
		"capability/kv/kvtest", []string{".", "./abi", "./capability", "github.com/anishathalye/porcupine"},
		"what every kv provider is held to knows none of them",
	},
	{
		"socket", []string{},
		"what may still leave a process is asked in one place, and by whoever writes: it knows none of them",
	},
	{
		"capability/httpout", []string{".", "./abi", "./capability", "./socket", "github.com/hashicorp/go-hclog", "golang.org/x/net"},
		"the way out of the cluster is one folder, so that what may be dialled is decided in one place",
	},
	{
		"capability/messaging", []string{
			".", "./abi", "./capability", "./socket", "github.com/nats-io/nats.go", "github.com/nats-io/nats-server/v2", "github.com/hashicorp/go-hclog",
		},
		"NATS is hidden here",
	},
	{
		"abi", nil,
		"the contract with guests depends on nothing, so that nothing can change it by the way",
	},
	{
		"rpc", []string{
			".", "./gen/api", "./abi", "./capability", "./socket", "connectrpc.com", "google.golang.org/protobuf",
			"github.com/hashicorp/go-hclog", "golang.org/x/net", "golang.org/x/sync",
		},
		"the API layer converts and calls; were it to import a room, logic would settle in it",
	},
	{
		"cmd/wasmatrix", []string{"*"},
		"the wiring joins everything",
	},
	{
		"e2e", []string{
			".", "./rpc", "./gen/api", "connectrpc.com", "google.golang.org/protobuf", "google.golang.org/grpc",
			"golang.org/x/net", "golang.org/x/sync", "golang.org/x/sys",
		},
		"end-to-end tests see what users see: the binary and the API, never the inside of a process",
	},
	{
		"gen", []string{"connectrpc.com", "google.golang.org/protobuf", "./gen"},
		"generated code depends on its runtime only",
	},
	{
		"sdk", []string{},
		"guests' bindings depend on nothing but the contract that they write out",
	},
	{
		"examples", []string{"./sdk"},
		"guests are programs of their own",
	},
}

type listedPackage struct {
	ImportPath string
	Imports    []string
}

// TestRooms holds the table of DESIGN §2 against the code.
func TestRooms(t *testing.T) {
	for _, pkg := range listPackages(t) {
		dir := strings.TrimPrefix(strings.TrimPrefix(pkg.ImportPath, modulePath), "/")
		if dir == "" {
			dir = "."
		}
		r, ok := roomOf(dir)
		if !ok {
			t.Errorf("package %s is in no room: add its room to the table, with a reason", dir)
			continue
		}
		for _, imp := range pkg.Imports {
			if !r.allows(imp) {
				t.Errorf("%s imports %s, which room %q may not: %s", dir, imp, r.dir, r.why)
			}
		}
	}
}

// TestRoomsRefuse sees that the table refuses what the design bans.
func TestRoomsRefuse(t *testing.T) {
	for _, ban := range []struct{ dir, imp string }{
		{"fsm", modulePath + "/cluster"},
		{"fsm", "github.com/hashicorp/raft"},
		{"fsm", "github.com/klauspost/compress"},
		{"snapfile", modulePath + "/fsm"},
		{"snapfile", modulePath + "/gen/log"},
		{"scheduler", modulePath + "/scheduler/dispatch"},
		{"scheduler", "github.com/hashicorp/go-hclog"},
		{"cluster", modulePath + "/rpc"},
		{"cluster/group", modulePath + "/fsm"},
		{"node", "github.com/tetratelabs/wazero"},
		{"node", modulePath + "/rpc/client"},
		{"node/engine", modulePath + "/cluster"},
		{"rpc", modulePath + "/scheduler/dispatch"},
		{"rpc", modulePath + "/capability/kv"},
		{"capability", modulePath + "/capability/messaging"},
		{"capability/kv", modulePath + "/cluster/group"},
		{"node/engine", modulePath + "/capability/httpout"},
		{"rpc/client", modulePath + "/node"},
		{"e2e", modulePath + "/fsm"},
		{".", "github.com/hashicorp/go-hclog"},
	} {
		r, ok := roomOf(ban.dir)
		if !ok || r.allows(ban.imp) {
			t.Errorf("%s may import %s", ban.dir, ban.imp)
		}
	}
}

func roomOf(dir string) (room, bool) {
	best, ok := room{}, false
	for _, r := range rooms {
		if (dir == r.dir || strings.HasPrefix(dir, r.dir+"/")) && len(r.dir) > len(best.dir) {
			best, ok = r, true
		}
	}
	return best, ok
}

func (r room) allows(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	if !strings.Contains(first, ".") {
		return true // standard library
	}
	own := modulePath + "/" + r.dir
	if r.dir != "." && within(imp, own) {
		// A nested room is not simply a subpackage: it has a row of its own.
		inner, _ := roomOf(strings.TrimPrefix(imp, modulePath+"/"))
		return inner.dir == r.dir || slices.Contains(r.allow, "./"+inner.dir)
	}
	return slices.ContainsFunc(r.allow, func(a string) bool {
		switch {
		case a == "*":
			return true
		case a == ".":
			return imp == modulePath
		case strings.HasPrefix(a, "./"):
			// A room within it that has a row of its own is not meant.
			inner, _ := roomOf(strings.TrimPrefix(imp, modulePath+"/"))
			return within(imp, modulePath+a[1:]) && !strings.HasPrefix(inner.dir, a[2:]+"/")
		default:
			return within(imp, a)
		}
	})
}

func within(imp, path string) bool { return imp == path || strings.HasPrefix(imp, path+"/") }

func listPackages(t *testing.T) []listedPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var pkgs []listedPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listedPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < 5 {
		t.Fatalf("go list found only %d packages", len(pkgs))
	}
	return pkgs
}
