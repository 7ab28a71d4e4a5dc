package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
	"github.com/wasmatrix/wasmatrix/rpc/wire"
)

func TestNormalize(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"agent -dev", "agent --dev"},
		{"agent -config a.hcl -config=b.hcl", "agent --config a.hcl --config=b.hcl"},
		{"agent --dev -log-level debug", "agent --dev --log-level debug"},
		{"ps -aq", "ps -aq"},
		{"ps -o json", "ps -o json"},
		{"ps -ojson", "ps -ojson"},
		{"ps -all -output=json", "ps --all --output=json"},
		{"-addr x ps -a", "--addr x ps -a"},
		{"-o json cluster peers", "-o json cluster peers"},
		{"logs -fn 3 x", "logs -fn 3 x"},
		{"logs -n -tail x", "logs -n -tail x"},      // the value of -n
		{"run x -env -label", "run x --env -label"}, // the value of --env
		{"run x -env=-label", "run x --env=-label"}, // likewise
		{"run x -- -id -env", "run x -- -id -env"},  // of the program
		{"run - -id x", "run - --id x"},             // a lone dash is a word
		{"run x -unknown", "run x -unknown"},        // left for cobra to refuse
		{"cluster join -addr x y", "cluster join --addr x y"},
		{"help run", "help run"},
		{"ps -help", "ps --help"},
		{"__complete agent -con", "__complete agent -con"},
		{"__complete ps -node -con", "__complete ps --node -con"},
		{"", ""},
	} {
		got, err := normalize(testCLI().rootCommand(), strings.Fields(tt.in))
		if err != nil || !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("%q becomes %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
	for in, want := range map[string]string{
		"psx":             `unknown command "psx" for "wasmatrix"; did you mean "ps"?`,
		"-o json nope":    `unknown command "nope" for "wasmatrix"`,
		"cluster -o x pe": `unknown command "pe" for "wasmatrix cluster"`,
	} {
		_, err := normalize(testCLI().rootCommand(), strings.Fields(in))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// FuzzNormalize: nothing panics, nothing is lost, dashes and shields are all that
// is added, and doing it twice changes nothing more.
func FuzzNormalize(f *testing.F) {
	f.Add("agent -dev -config x")
	f.Add("run x -env -label -- -id")
	f.Add("__complete ps -node ")
	f.Add("invoke i f -1 --data -2 -- -3")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		got, err := normalize(testCLI().rootCommand(), args)
		if err != nil {
			if _, ok := errors.AsType[*usageError](err); !ok {
				t.Errorf("%v is no error about usage", err)
			}
			return
		}
		if len(got) != len(args) {
			t.Fatalf("%q becomes %q", args, got)
		}
		for i := range got {
			if got[i] != args[i] && got[i] != "-"+args[i] && got[i] != shield+args[i] {
				t.Errorf("%q becomes %q", args[i], got[i])
			}
		}
		again, err := normalize(testCLI().rootCommand(), got)
		if err != nil || !slices.Equal(again, got) {
			t.Errorf("%q becomes %q and then %q, %v", args, got, again, err)
		}
	})
}

// FuzzCap: what is accepted is what the vocabulary accepts, and nothing of it is
// lost.
func FuzzCap(f *testing.F) {
	f.Add("store=kv:kv:read,kv:write:tmp/")
	f.Add("net=http:http:domain:*.example.com")
	f.Add("bus=messaging:msg:publish:a.b=c")
	f.Add("visits=kv:kv:read,namespace=visits,provider=big,stale")
	f.Add("bus=messaging:msg:publish,provider=a,provider=a")
	f.Add("=:,")
	f.Fuzz(func(t *testing.T, s string) {
		grants, err := parseCaps([]string{s})
		if err != nil {
			if _, ok := errors.AsType[*usageError](err); !ok {
				t.Errorf("%v is no error about usage", err)
			}
			return
		}
		g := grants[0]
		if back := written(g); sortedItems(back) != sortedItems(s) {
			t.Errorf("%q is read as %q", s, back)
		}
		if _, err := wasmatrix.NewAssignment("i", wasmatrix.CapabilityID(g.GetCapabilityId()), wire.GrantFrom(g)); err != nil {
			t.Errorf("%q is accepted, and then refused: %v", s, err)
		}
	})
}

// written is a grant as --cap takes it.
func written(g *api.CapabilityGrant) string {
	items := slices.Clone(g.GetPermissions())
	if p := g.GetProvider(); p != "" {
		items = append(items, "provider="+p)
	}
	if n := g.GetNamespace(); n != "" {
		items = append(items, "namespace="+n)
	}
	if g.GetStale() {
		items = append(items, "stale")
	}
	return g.GetCapabilityId() + "=" + g.GetType() + ":" + strings.Join(items, ",")
}

// sortedItems puts the items of a grant as --cap takes it into an order of their
// own.
func sortedItems(s string) string {
	id, rest, _ := strings.Cut(s, "=")
	typ, list, _ := strings.Cut(rest, ":")
	return id + "=" + typ + ":" + strings.Join(slices.Sorted(strings.SplitSeq(list, ",")), ",")
}

// FuzzStartFlags: constraints, labels and variables that are accepted reach the
// request as they were written.
func FuzzStartFlags(f *testing.F) {
	f.Add("zone in (a, b)", "k=v", "A=1")
	f.Add("!gpu", "k==", "A")
	f.Fuzz(func(t *testing.T, constraint, label, env string) {
		flags := startFlags{count: 1, restart: "never", constraints: []string{constraint}, labels: []string{label}, env: []string{env}}
		req, err := flags.request()
		if err != nil {
			if _, ok := errors.AsType[*usageError](err); !ok {
				t.Errorf("%v is no error about usage", err)
			}
			return
		}
		c, err := wasmatrix.ParseConstraint(req.GetConstraints()[0])
		if err != nil {
			t.Errorf("%q is accepted, and then refused: %v", constraint, err)
		}
		if again, err := wasmatrix.ParseConstraint(c.String()); err != nil || again.String() != c.String() {
			t.Errorf("%q is written as %q, which is read as %q, %v", constraint, c, again, err)
		}
		for k, v := range req.GetLabels() {
			if k+"="+v != label {
				t.Errorf("label %q is read as %q, %q", label, k, v)
			}
		}
	})
}
