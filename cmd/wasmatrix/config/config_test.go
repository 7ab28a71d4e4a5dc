package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// clearEnv keeps the environment of whoever runs the tests out of them.
func clearEnv(t *testing.T) {
	for _, key := range Keys() {
		t.Setenv(EnvVar(key), "")
	}
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultsAreValid(t *testing.T) {
	c := Default()
	if problems := c.checkValues(); len(problems) > 0 {
		t.Errorf("the defaults are refused: %v", problems)
	}
	err := c.Validate()
	if got := wasmatrix.AsError(err).Details[wasmatrix.DetailField]; got != "server.enabled" {
		t.Errorf("a configuration without a role is refused for %q: %v", got, err)
	}
	c.Server.Enabled, c.DataDir = true, "/data"
	if err := c.Validate(); err != nil {
		t.Errorf("a server with nothing but a data directory is refused: %v", err)
	}
}

// TestSourcesOverrideEachOther sets one key in ever more sources and sees the
// later one win, and the keys that only the earlier ones set stay.
func TestSourcesOverrideEachOther(t *testing.T) {
	clearEnv(t)
	first := writeFile(t, "first.hcl", `
name     = "first"
data_dir = "/first"
log { level = "warn" }
gossip { retry_join = ["10.0.0.1:1", "10.0.0.2:2"] }
node { labels = { zone = "a", disk = "ssd" } }
`)
	second := writeFile(t, "second.hcl", `
name = "second"
log { format = "json" }
node { labels = { zone = "b" } }
`)
	load := func(paths ...string) *Config {
		t.Helper()
		c, err := Load(paths...)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := load(); c.BindAddr != "127.0.0.1" || c.Ports.API != 7480 {
		t.Errorf("defaults: %+v", c)
	}
	if c := load(first); c.Name != "first" || c.Log.Level != "warn" || c.Log.Format != "text" {
		t.Errorf("after one file: %+v", c)
	}
	c := load(first, second)
	if c.Name != "second" || c.DataDir != "/first" || c.Log != (Log{Level: "warn", Format: "json"}) {
		t.Errorf("after two files: %+v", c)
	}
	if want := map[string]string{"zone": "b"}; !reflect.DeepEqual(c.Node.Labels, want) {
		t.Errorf("labels are %v: a later map replaces an earlier one", c.Node.Labels)
	}
	if len(c.Gossip.RetryJoin) != 2 {
		t.Errorf("retry_join is %v", c.Gossip.RetryJoin)
	}

	t.Setenv("WASMATRIX_NAME", "third")
	t.Setenv("WASMATRIX_GOSSIP_RETRY_JOIN", "10.0.0.3, 10.0.0.4:4")
	t.Setenv("WASMATRIX_NODE_LABELS", "zone=c,rack=7")
	t.Setenv("WASMATRIX_NODE_MEMORY", "1GiB")
	t.Setenv("WASMATRIX_SERVER_ENABLED", "true")
	t.Setenv("WASMATRIX_SERVER_RAFT_HEARTBEAT", "250ms")
	t.Setenv("WASMATRIX_PORTS_API", "8000")
	c = load(first, second)
	if c.Name != "third" || c.Log.Level != "warn" || c.Node.Memory != 1<<30 || !c.Server.Enabled ||
		c.Server.Raft.Heartbeat != 250*time.Millisecond || c.Ports.API != 8000 {
		t.Errorf("after the environment: %+v", c)
	}
	if want := []string{"10.0.0.3", "10.0.0.4:4"}; !slices.Equal(c.Gossip.RetryJoin, want) {
		t.Errorf("retry_join is %q", c.Gossip.RetryJoin)
	}
	if want := map[string]string{"zone": "c", "rack": "7"}; !reflect.DeepEqual(c.Node.Labels, want) {
		t.Errorf("labels are %v", c.Node.Labels)
	}

	if err := c.Set("name", "fourth", "-name"); err != nil || c.Name != "fourth" {
		t.Errorf("after a flag: %q, %v", c.Name, err)
	}
}

func TestDirectoryIsReadByName(t *testing.T) {
	clearEnv(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"10-base.hcl": "name = \"base\"\ndata_dir = \"/base\"", "20-site.hcl": `name = "site"`,
		".20-site.hcl.swp": "\x00", ".hidden.hcl": "nonsense", "notes.txt": "name = ",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(dir)
	if err != nil || c.Name != "site" || c.DataDir != "/base" {
		t.Errorf("got %+v, %v", c, err)
	}
}

// TestOneLineBlocks reads the configuration of the design as it is printed.
func TestOneLineBlocks(t *testing.T) {
	clearEnv(t)
	path := writeFile(t, "design.hcl", `name           = "a"
data_dir       = "/var/lib/wasmatrix"
bind_addr      = "0.0.0.0"
advertise_addr = "10.0.0.1"
ports  { api = 7480  raft = 7481  gossip = 7482  node = 7483  node_gossip = 7484 }
log    { level = "info"  format = "text" }
server { enabled = true  bootstrap_expect = 3  log_store = "boltdb" }
node   { enabled = true  memory = "8GiB"  instances = 100000  labels = { zone = "a" } }
gossip { retry_join = ["10.0.0.1:7482", "10.0.0.2:7482"]  key = "" }
`)
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if c.Ports.NodeGossip != 7484 || c.Server.BootstrapExpect != 3 || c.Node.Memory != 8<<30 || c.Node.Labels["zone"] != "a" || len(c.Gossip.RetryJoin) != 2 {
		t.Errorf("got %+v", c)
	}
}

// TestUnfoldKeepsLines: what stands after blocks that were unfolded is still
// reported with its own line.
func TestUnfoldKeepsLines(t *testing.T) {
	clearEnv(t)
	for _, text := range []string{
		"log { level = \"info\"  format = \"text\" }\nserver { enabled = true  raft { heartbeat = \"300ms\"  election = \"400ms\" }  log_store = \"wal\" }\nbogus = 1\n",
		"node { labels = { a = \"b\", c = \"d\" }  enabled = true }\n\nbogus = 1",
		"log {\n  level = \"in${\"f\"}o\"\n}\nnode { labels = {\n a = \"b\"\n }  enabled = true }\nports { api = 1 } # x = y { z }\nserver {} \nlog2 { a = 1  b = 2 }\nbogus = true",
	} {
		want := 1 + strings.Count(text[:strings.Index(text, "bogus")], "\n")
		c := Default()
		problems := c.decode("f.hcl", []byte(text))
		last := problems[len(problems)-1]
		if last.Details[wasmatrix.DetailField] != "bogus" || last.Details["line"] != itoa(want) {
			t.Errorf("%q: got %v, want line %d", text, problems, want)
		}
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestProblemsNameFileLineAndKey(t *testing.T) {
	clearEnv(t)
	for _, tt := range []struct{ name, text, line, field, message string }{
		{"unknown key", "name = \"a\"\nnamee = \"b\"", "2", "namee", `unknown key; did you mean "name"?`},
		{"unknown block", "sever {\n}", "1", "sever", `did you mean "server"?`},
		{"unknown key in a block", "server {\n  enabled = true\n  bootstrap = 3\n}", "3", "server.bootstrap", "unknown key"},
		{"unknown key in a nested block", "server {\n raft {\n  hearbeat = \"1s\"\n }\n}", "3", "server.raft.hearbeat", `did you mean "heartbeat"?`},
		{"number for a string", "\nname = 7", "2", "name", "must be a string, not number"},
		{"string for a number", "ports {\n  api = \"7480\"\n}", "2", "ports.api", "must be a whole number, not string"},
		{"fraction", "ports {\n  api = 1.5\n}", "2", "ports.api", "must be a whole number, not 1.5"},
		{"huge number", "node {\n instances = 1e30\n}", "2", "node.instances", "must be a whole number, not 1e+30"},
		{"negative number", "ports {\n  api = -1\n}", "2", "ports.api", "must be a whole number, not -1"},
		{"string for a boolean", "server {\n enabled = \"yes\"\n}", "2", "server.enabled", "must be true or false, not string"},
		{"bare duration", "lease {\n ttl = 3\n}", "2", "lease.ttl", `must be a duration such as "300ms", not number`},
		{"bad duration", "lease {\n ttl = \"3\"\n}", "2", "lease.ttl", `not "3"`},
		{"bad size", "node {\n memory = \"8 gigs\"\n}", "2", "node.memory", "is not a size"},
		{"list of numbers", "gossip {\n retry_join = [1]\n}", "2", "gossip.retry_join", "must be a list of strings, not a list with number"},
		{"string for a list", "gossip {\n retry_join = \"a:1\"\n}", "2", "gossip.retry_join", "must be a list of strings, not string"},
		{"map of numbers", "node {\n labels = { a = 1 }\n}", "2", "node.labels", "must be a map of strings"},
		{"null", "name = null", "1", "name", "must be a string, not null"},
		{"variable", "name = hostname", "1", "name", "Variables not allowed"},
		{"attribute for a block", "log = { level = \"info\" }", "1", "log", "is a block: write log { ... } without '='"},
		{"block for an attribute", "name {\n}", "1", "name", "is no block"},
		{"block with a label", "server \"a\" {\n}", "1", "server", "takes no label"},
		{"key twice", "name = \"a\"\n\nname = \"b\"", "3", "", "Attribute redefined"},
		{"block twice", "log {\n}\nlog {\n}", "3", "log", "appears twice, first in line 1"},
		{"bad syntax", "name = \"a\"\nlog {\n", "2", "", "Unclosed configuration block"},

		{"bad name", "name = \"a b\"", "1", "name", "not allowed"},
		{"bad bind address", "bind_addr = \"here\"", "1", "bind_addr", "is not an IP address"},
		{"bad advertise address", "advertise_addr = \"a:1\"", "1", "advertise_addr", "without a port"},
		{"unspecified advertise address", "advertise_addr = \"0.0.0.0\"", "1", "advertise_addr", "others cannot reach 0.0.0.0"},
		{"port 0", "ports {\n raft = 0\n}", "2", "ports.raft", "0 is not between 1 and 65535"},
		{"bad level", "log {\n level = \"loud\"\n}", "2", "log.level", `"loud" is not one of trace, debug, info, warn, error`},
		{"bad format", "log {\n format = \"xml\"\n}", "2", "log.format", `"xml" is not one of text, json`},
		{"bad store", "server {\n log_store = \"redis\"\n}", "2", "server.log_store", "is not one of boltdb, wal"},
		{"bad placement", "server {\n placement = \"random\"\n}", "2", "server.placement", "is not one of spread, binpack"},
		{"quick heartbeat", "server {\n raft {\n heartbeat = \"1ms\"\n }\n}", "3", "server.raft.heartbeat", "1ms is not between 5ms and 1m0s"},
		{"one snapshot", "server {\n raft {\n snapshot_retain = 1\n }\n}", "3", "server.raft.snapshot_retain", "1 is not between 2 and 1000"},
		{"no memory", "node {\n memory = 0\n}", "2", "node.memory", "0B is not between 64KiB and"},
		{"no queue", "node {\n invoke_queue = 0\n}", "2", "node.invoke_queue", "0 is not between 1 and 100000"},
		{"deep calls", "node {\n call_stack = \"1GiB\"\n}", "2", "node.call_stack", "1GiB is not between 64KiB and 64MiB"},
		{"hasty compiler", "node {\n compile {\n  timeout = \"1ms\"\n }\n}", "3", "node.compile.timeout", "1ms is not between 1s and 1h0m0s"},
		{"no locals", "node {\n module_limits {\n  locals = 0\n }\n}", "3", "node.module_limits.locals", "0 is not between 1 and 1000000"},
		{"huge tables", "node {\n module_limits {\n  table_elements = 134217729\n }\n}", "3", "node.module_limits.table_elements", "134217729 is not between 1 and 134217728"},
		{"two memories", "node {\n module_limits {\n  memories = 2\n }\n}", "3", "node.module_limits.memories", "must be 1, not 2"},
		{"taken label", "node {\n labels = { node = \"x\" }\n}", "2", "node.labels", "cannot be set"},
		{"bad label", "node {\n labels = { \"a b\" = \"x\" }\n}", "2", "node.labels", "not allowed"},
		{"bad join address", "gossip {\n retry_join = [\"a:0\"]\n}", "2", "gossip.retry_join", `"0" is not a port`},
		{"key of gossip", "gossip {\n key = \"c2VjcmV0\"\n}", "2", "gossip.key", "not supported yet"},
		{"long lease", "lease {\n ttl = \"2h\"\n}", "2", "lease.ttl", "2h0m0s is not between"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := writeFile(t, "bad.hcl", tt.text)
			c, err := Load(path)
			if err == nil {
				t.Fatalf("%q is accepted", tt.text)
			}
			if c != nil {
				t.Error("a configuration was returned with the error")
			}
			e := wasmatrix.AsError(err)
			if e.Code != wasmatrix.CodeValidation || e.Details["file"] != path || e.Details["line"] != tt.line || e.Details[wasmatrix.DetailField] != tt.field {
				t.Errorf("got %v with %v", e, e.Details)
			}
			if where := path + ":" + tt.line + ": " + tt.field; !strings.HasPrefix(e.Message, where) || !strings.Contains(e.Message, tt.message) {
				t.Errorf("message %q lacks %q or %q", e.Message, where, tt.message)
			}
		})
	}
}

func TestValidateKeepsThePlace(t *testing.T) {
	clearEnv(t)
	for _, tt := range []struct{ name, text, line, field, message string }{
		{"no role", "data_dir = \"/d\"", "", "server.enabled", "nothing to run"},
		{"no data directory", "server {\n enabled = true\n}", "", "data_dir", "no data directory given"},
		{"port twice", "data_dir = \"/d\"\nserver { enabled = true }\nports {\n raft = 7480\n}", "4", "ports.raft", "7480 is the port of ports.api too"},
		{"quick election", "data_dir = \"/d\"\nserver {\n enabled = true\n raft {\n heartbeat = \"2s\"\n election = \"1s\"\n }\n}", "6", "server.raft.election", "1s is below server.raft.heartbeat, 2s"},
		{"long lease", "data_dir = \"/d\"\nserver {\n enabled = true\n raft {\n leader_lease = \"400ms\"\n }\n}", "5", "server.raft.leader_lease", "400ms is above server.raft.heartbeat, 300ms"},
		{"server accepts more than its node", "data_dir = \"/d\"\nserver {\n enabled = true\n max_module = \"128MiB\"\n}\nnode { enabled = true }", "4", "server.max_module", "128MiB is above node.module_limits.bytes, 64MiB"},
		{"node takes less than its server", "data_dir = \"/d\"\nserver { enabled = true }\nnode {\n enabled = true\n module_limits {\n  bytes = \"8MiB\"\n }\n}", "6", "node.module_limits.bytes", "8MiB is below server.max_module, 64MiB"},
		{"no address for others", "data_dir = \"/d\"\nbind_addr = \"0.0.0.0\"\nserver { enabled = true }", "", "advertise_addr", "others cannot reach 0.0.0.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := writeFile(t, "bad.hcl", tt.text)
			c, err := Load(path)
			if err != nil {
				t.Fatalf("Load complains already: %v", err)
			}
			e := wasmatrix.AsError(c.Validate())
			if e == nil || e.Details["line"] != tt.line || e.Details[wasmatrix.DetailField] != tt.field || !strings.Contains(e.Message, tt.message) {
				t.Errorf("got %v", e)
			}
			if got := Problems(path); len(got) != 1 || got[0].Message != e.Message {
				t.Errorf("Problems finds %v", got)
			}
		})
	}
}

func TestAllProblemsAreFound(t *testing.T) {
	clearEnv(t)
	path := writeFile(t, "bad.hcl", "namee = 1\nlog {\n level = 3\n}\n")
	t.Setenv("WASMATRIX_PORTS_API", "many")
	problems := Problems("/nonexistent/a.hcl", path)
	var fields []string
	for _, p := range problems {
		fields = append(fields, p.Details[wasmatrix.DetailField])
	}
	if want := []string{"", "namee", "log.level", "ports.api"}; !slices.Equal(fields, want) {
		t.Errorf("got %v, want problems of %q", problems, want)
	}
	_, err := Load("/nonexistent/a.hcl", path)
	if err == nil || !strings.HasSuffix(err.Error(), "no such file or directory (and 3 more)") {
		t.Errorf("Load: %v", err)
	}
}

func TestUnreadableFiles(t *testing.T) {
	clearEnv(t)
	large := writeFile(t, "large.hcl", strings.Repeat("# comment\n", maxFile/10+1))
	for path, want := range map[string]string{
		"/nonexistent.hcl": "/nonexistent.hcl: no such file or directory",
		t.TempDir():        "the directory has no *.hcl file",
		large:              "larger than 1MiB",
	} {
		_, err := Load(path)
		e := wasmatrix.AsError(err)
		if e == nil || e.Code != wasmatrix.CodeValidation || e.Details["file"] != path || !strings.Contains(e.Message, want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestBadVariablesAndFlagsAreNamed(t *testing.T) {
	clearEnv(t)
	t.Setenv("WASMATRIX_LEASE_TTL", "soon")
	_, err := Load()
	e := wasmatrix.AsError(err)
	if e == nil || e.Details["source"] != "WASMATRIX_LEASE_TTL" || e.Details[wasmatrix.DetailField] != "lease.ttl" ||
		e.Message != `WASMATRIX_LEASE_TTL: lease.ttl: must be a duration such as "300ms", not "soon"` {
		t.Errorf("got %v", err)
	}
	t.Setenv("WASMATRIX_LEASE_TTL", "1ms") // well-formed, and out of range
	_, err = Load()
	if e := wasmatrix.AsError(err); e == nil || e.Details["source"] != "WASMATRIX_LEASE_TTL" {
		t.Errorf("got %v", err)
	}

	c := Default()
	if err := c.Set("log.level", "loud", "-log-level"); err != nil {
		t.Fatal(err)
	}
	if e := wasmatrix.AsError(c.Validate()); e == nil || !strings.HasPrefix(e.Message, "-log-level: log.level: ") {
		t.Errorf("got %v", e)
	}
	if e := wasmatrix.AsError(c.Set("server.bootstrap_expect", "three", "-bootstrap-expect")); e == nil ||
		e.Message != `-bootstrap-expect: server.bootstrap_expect: must be a whole number, not "three"` {
		t.Errorf("got %v", e)
	}
}

func TestVariablesAreUnique(t *testing.T) {
	seen := map[string]string{"WASMATRIX_ADDR": "the client's", "WASMATRIX_BIN": "the tests'"}
	for _, key := range Keys() {
		v := EnvVar(key)
		if other, taken := seen[v]; taken {
			t.Errorf("%s is the variable of %s and of %s", v, key, other)
		}
		seen[v] = key
	}
}

// TestJSONRoundTrip: a server hands its configuration to its node that way.
func TestJSONRoundTrip(t *testing.T) {
	clearEnv(t)
	c := example(t)
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var back Config
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	c.sources = nil
	if !reflect.DeepEqual(*c, back) {
		t.Errorf("got  %+v\nwant %+v", back, *c)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	clearEnv(t)
	c := example(t)
	d := c.Clone()
	d.Node.Labels["zone"], d.Gossip.RetryJoin[0] = "changed", "changed"
	if err := d.Set("name", "changed", "-name"); err != nil {
		t.Fatal(err)
	}
	if c.Node.Labels["zone"] == "changed" || c.Gossip.RetryJoin[0] == "changed" || c.sources["name"].name == "-name" {
		t.Error("the clone shares something")
	}
}
