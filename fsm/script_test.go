package fsm

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

var update = flag.Bool("update", false, "write what the scripts print into them")

// TestScripts runs testdata/script/*.txt. A script is blocks separated by empty
// lines: a command line, then what it answers and the facts that it makes.
// Lines that begin with # say what is shown. See [script.run] for the commands.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{t: t, m: newMachine(t, Options{})}
			s.m.now = 0
			var out []string
			for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
				var done []string
				for line := range strings.SplitSeq(block, "\n") {
					done = append(done, line)
					if !strings.HasPrefix(line, "#") {
						done = append(done, s.run(strings.Fields(line))...)
						break
					}
				}
				checkInvariants(t, s.m.fsm.State(), Options{})
				got := strings.Join(done, "\n")
				if got != block && !*update {
					t.Errorf("%s: got\n%s\n\nwant\n%s", file, got, block)
				}
				out = append(out, got)
			}
			if *update {
				if err := os.WriteFile(file, []byte(strings.Join(out, "\n\n")+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

type script struct {
	t *testing.T
	m *machine
}

// args are the words of a command line: key=value pairs, and the others in order.
type args struct {
	words []string
	pairs map[string]string
}

func parseArgs(words []string) args {
	a := args{pairs: map[string]string{}}
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok {
			if k == "reason" || k == "message" {
				v = strings.ReplaceAll(v, "_", " ")
			}
			a.pairs[k] = v
		} else {
			a.words = append(a.words, w)
		}
	}
	return a
}

func (a args) num(key string, def int) int {
	v, ok := a.pairs[key]
	if !ok {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		panic(err)
	}
	return n
}

func (a args) or(key, def string) string {
	if v, ok := a.pairs[key]; ok {
		return v
	}
	return def
}

func (a args) request() wasmatrix.Request {
	return wasmatrix.Request{ID: wasmatrix.RequestID(a.pairs["req"]), Body: [16]byte{byte(a.num("body", 0))}}
}

func (s *script) run(words []string) []string {
	first := s.m.fsm.State().facts.next
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	cmd, a := words[0], parseArgs(words[1:])
	word := func(n int) string { return a.words[n] }
	at := s.m.now
	do := func(c wasmatrix.Command) { say("%s", describe(s.m.do(c))) }
	node := func() wasmatrix.NodeID { return wasmatrix.NodeID(word(0)) }
	instance := func() wasmatrix.InstanceID { return wasmatrix.InstanceID(word(0)) }
	switch cmd {
	case "wait": // DURATION: moves the leader's clock
		d, err := time.ParseDuration(word(0))
		if err != nil {
			s.t.Fatal(err)
		}
		say("%s", time.Duration(s.m.tick(d)))
	case "init":
		do(wasmatrix.InitCluster{At: at, Cluster: wasmatrix.ClusterID(word(0))})
	case "module": // NAME: a module of that name, whose digest is made of it
		do(wasmatrix.AddModule{At: at, Request: a.request(), Module: &wasmatrix.Module{Digest: digestOf(word(0)), Size: 7}, Name: a.or("name", "")})
	case "rm-module":
		do(wasmatrix.RemoveModule{At: at, Request: a.request(), Digest: digestOf(word(0))})
	case "register":
		r := wasmatrix.Registration{
			ID: node(), Boot: wasmatrix.BootID(a.or("boot", "b1")), Addr: a.or("addr", ""),
			Capacity: wasmatrix.Capacity{Memory: 1 << 30, Instances: uint32(a.num("max", 10))},
		}
		if z, ok := a.pairs["zone"]; ok {
			r.Labels = map[string]string{"zone": z}
		}
		do(wasmatrix.RegisterNode{At: at, Registration: r})
	case "down":
		do(wasmatrix.MarkNodeDown{At: at, Node: node(), Boot: wasmatrix.BootID(a.or("boot", "b1")), Reason: a.or("reason", "")})
	case "drain", "undrain":
		do(wasmatrix.DrainNode{At: at, Request: a.request(), Node: node(), Drain: cmd == "drain"})
	case "forget":
		do(wasmatrix.ForgetNode{At: at, Request: a.request(), Node: node()})
	case "start": // INSTANCE[@NODE]...
		mode, err := wasmatrix.ParseRestartMode(a.or("policy", ""))
		if err != nil {
			s.t.Fatal(err)
		}
		spec := testSpec(mode)
		spec.Module = digestOf(a.or("module", "m"))
		if z, ok := a.pairs["zone"]; ok {
			spec.Constraints = []wasmatrix.Constraint{{Key: "zone", Values: []string{z}}}
		}
		it := wasmatrix.StartItem{Request: a.request(), Spec: spec}
		for _, w := range a.words {
			id, n, _ := strings.Cut(w, "@")
			it.Placements = append(it.Placements, wasmatrix.Placement{Instance: wasmatrix.InstanceID(id), Node: wasmatrix.NodeID(n)})
		}
		if c, ok := a.pairs["cap"]; ok {
			it.Assignments = []*wasmatrix.Assignment{{
				ID: wasmatrix.CapabilityID(c), Grant: wasmatrix.Grant{
					Type: wasmatrix.ProviderKV, Permissions: []wasmatrix.Permission{"kv:read"}, Provider: wasmatrix.ProviderID(a.or("provider", "")),
				},
			}}
		}
		do(wasmatrix.StartInstances{At: at, Items: []wasmatrix.StartItem{it}})
	case "place": // INSTANCE NODE
		do(wasmatrix.PlaceInstances{At: at, Items: []wasmatrix.PlaceItem{{Instance: instance(), Epoch: uint64(a.num("epoch", 0)), Node: wasmatrix.NodeID(word(1))}}})
	case "stop":
		do(wasmatrix.StopInstances{At: at, Items: []wasmatrix.StopItem{{Request: a.request(), Instance: instance()}}})
	case "restart":
		do(wasmatrix.RestartInstance{At: at, Request: a.request(), Instance: instance(), MinEpoch: uint64(a.num("min", 0))})
	case "report": // INSTANCE NODE STATUS
		st, err := wasmatrix.ParseStatus(word(2))
		if err != nil {
			s.t.Fatal(err)
		}
		r := wasmatrix.Report{
			Instance: instance(), Epoch: uint64(a.num("epoch", 1)), Attempt: uint32(a.num("attempt", 1)), Seq: uint64(a.num("seq", 0)),
			Status: st, Reason: a.or("reason", ""), Error: wasmatrix.Code(a.or("error", "")),
		}
		if _, ok := a.pairs["exit"]; ok {
			code := int32(a.num("exit", 0))
			r.ExitCode = &code
		}
		if k, ok := a.pairs["crash"]; ok {
			r.Crash = &wasmatrix.Crash{Kind: wasmatrix.CrashKind(k), Message: a.or("message", ""), ExitCode: r.ExitCode}
		}
		do(wasmatrix.ApplyReports{At: at, Node: wasmatrix.NodeID(word(1)), Boot: wasmatrix.BootID(a.or("boot", "b1")), Reports: []wasmatrix.Report{r}})
	case "assign": // INSTANCE CAPABILITY PERMISSION...
		var perms []wasmatrix.Permission
		for _, p := range a.words[2:] {
			perms = append(perms, wasmatrix.Permission(p))
		}
		do(wasmatrix.AssignCapability{At: at, Request: a.request(), Assignment: &wasmatrix.Assignment{
			Instance: instance(), ID: wasmatrix.CapabilityID(word(1)), Grant: wasmatrix.Grant{
				Type: wasmatrix.ProviderType(a.or("type", "kv")), Permissions: perms,
				Provider: wasmatrix.ProviderID(a.or("provider", "")), Namespace: a.or("namespace", ""),
			},
		}})
	case "revoke": // INSTANCE CAPABILITY
		do(wasmatrix.RevokeCapability{At: at, Request: a.request(), Instance: instance(), Capability: wasmatrix.CapabilityID(word(1))})
	case "provider":
		do(wasmatrix.PutProvider{At: at, Request: a.request(), Provider: &wasmatrix.Provider{
			ID: wasmatrix.ProviderID(word(0)), Type: wasmatrix.ProviderType(a.or("type", "kv")), Revision: uint64(a.num("revision", 0)), Stopped: slices.Contains(a.words, "stopped"),
		}, Create: slices.Contains(a.words, "create")})
	case "rm-provider":
		do(wasmatrix.RemoveProvider{At: at, Request: a.request(), Provider: wasmatrix.ProviderID(word(0))})
	case "deny": // INSTANCE NODE CAPABILITY OPERATION
		do(wasmatrix.RecordDenials{
			At: at, Request: a.request(), Node: wasmatrix.NodeID(word(1)), Boot: wasmatrix.BootID(a.or("boot", "b1")),
			Denials: []wasmatrix.Denial{{
				Instance: instance(), Epoch: uint64(a.num("epoch", 1)), Capability: wasmatrix.CapabilityID(word(2)), Operation: word(3),
				Reason: a.or("reason", ""), Count: uint64(a.num("count", 1)),
			}},
		})
	case "gc":
		ago := func(key string) wasmatrix.Time {
			d, err := time.ParseDuration(a.or(key, "1h"))
			if err != nil {
				s.t.Fatal(err)
			}
			return at - wasmatrix.Time(d)
		}
		do(wasmatrix.CollectGarbage{At: at, FinalBefore: ago("final"), MaxFinal: a.num("max", 100), ModulesBefore: ago("modules"), Limit: a.num("limit", 100)})
	case "show": // INSTANCE
		i := s.m.instance(instance())
		say("%s", describe(i))
		say("restarts=%d crashes=%d created=%s started=%s changed=%s", i.Restarts, i.Crashes,
			time.Duration(i.CreatedAt), time.Duration(i.StartedAt), time.Duration(i.ChangedAt))
		for _, c := range s.m.fsm.State().Crashes(i.ID) {
			say("crash %s %q node=%s epoch=%d attempt=%d uptime=%s at=%s", c.Kind, c.Message, c.Node, c.Epoch, c.Attempt, time.Duration(c.Uptime), time.Duration(c.At))
		}
		for as := range s.m.fsm.State().Assignments(i.ID) {
			say("%s", describe(as))
		}
	case "unplaced":
		for i := range s.m.fsm.State().Unplaced() {
			say("%s", describe(i))
		}
	default:
		s.t.Fatalf("unknown command %q", cmd)
	}
	for f := range s.m.fsm.State().Facts(first) {
		line := "  " + string(f.Kind)
		if f.Instance != "" {
			line += fmt.Sprintf(" %s@%s %d.%d", f.Instance, f.Node, f.Epoch, f.Attempt)
		} else if f.Node != "" {
			line += " " + string(f.Node)
		}
		if f.Reason != "" {
			line += " (" + f.Reason + ")"
		}
		out = append(out, line)
	}
	return out
}

// describe writes an answer in one line.
func describe(answer any) string {
	switch v := answer.(type) {
	case nil:
		return "ok"
	case *wasmatrix.Error:
		if v == nil {
			return "ok"
		}
		return v.Error()
	case []*wasmatrix.Error:
		return describe(v[0])
	case []wasmatrix.StartResult:
		if v[0].Err != nil {
			return v[0].Err.Error()
		}
		return fmt.Sprintf("%v duplicate=%t", v[0].Instances, v[0].Duplicate)
	case *wasmatrix.Instance:
		s := fmt.Sprintf("%s %s@%s %d.%d/%d", v.ID, v.Status, v.Node, v.Epoch, v.Attempt, v.Seq)
		if v.StopRequested {
			s += " stop-requested"
		}
		if v.LastError != "" {
			s += " " + string(v.LastError)
		}
		if v.ExitCode != nil {
			s += fmt.Sprintf(" exit=%d", *v.ExitCode)
		}
		if v.Reason != "" {
			s += " (" + v.Reason + ")"
		}
		return s
	case *wasmatrix.Node:
		s := fmt.Sprintf("%s boot=%s %s", v.ID, v.Boot, v.Status)
		if v.Draining {
			s += " draining"
		}
		return s
	case *wasmatrix.Assignment:
		return fmt.Sprintf("%s %s=%s %v", v.Instance, v.ID, v.Type, v.Permissions)
	case *wasmatrix.Provider:
		return fmt.Sprintf("%s %s revision=%d stopped=%t", v.ID, v.Type, v.Revision, v.Stopped)
	case *wasmatrix.Module:
		return fmt.Sprintf("module %s size=%d", v.Digest.Short(), v.Size)
	default:
		return fmt.Sprint(v)
	}
}
