package meter_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"github.com/wasmatrix/wasmatrix/node/meter"
)

// specDeviations are where the engine, unmetered, does not do what a script expects.
// Metered it must do the same.
var specDeviations = []struct {
	reason string
	match  func(c specCommand, plain outcome) bool
}{
	{"the engine keeps an instance whose active element segment is out of bounds, as the functions that came before are in use", func(c specCommand, plain outcome) bool {
		return c.Type == "assert_uninstantiable" && c.Text == "out of bounds table access" && plain.refused == nil && plain.failure == ""
	}},
}

// specCounts add up over all scripts.
type specCounts struct {
	mu     sync.Mutex
	checks map[string]int // commands by type
	skips  map[string]int // by reason
	refill int
}

func (c *specCounts) add(m map[string]int, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m[key]++
}

// TestSpecification runs the specification's tests on modules as they are and on metered ones,
// with the features of the version that a suite is for, where both give what the script expects
// and the same to the bit; and with all features of a node, where both agree.
func TestSpecification(t *testing.T) {
	dir := specDir(t)
	counts := &specCounts{checks: map[string]int{}, skips: map[string]int{}}
	t.Run("scripts", func(t *testing.T) {
		for _, suite := range specSuites {
			for _, path := range specScripts(t, dir, suite) {
				name := suite.name + "/" + strings.TrimSuffix(filepath.Base(path), ".json")
				run := func(name string, r specRun) {
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						r.t, r.dir, r.files, r.counts = t, dir, filepath.Dir(path), counts
						r.script(readScript(t, path))
					})
				}
				if !suite.disabled {
					run(name, specRun{features: suite.features})
				}
				run(name+"/node", specRun{features: features, agree: true, disabled: suite.disabled})
			}
		}
	})
	total := 0
	for _, kind := range sorted(counts.checks) {
		t.Logf("%6d %s", counts.checks[kind], kind)
		total += counts.checks[kind]
	}
	for _, reason := range sorted(counts.skips) {
		t.Logf("%6d skipped: %s", counts.skips[reason], reason)
	}
	t.Logf("%6d commands, %d refills", total, counts.refill)
	// What ships with the engine can only grow; a runner that finds less has gone astray.
	for kind, least := range map[string]int{
		"module": 4800, "assert_return": 123_000, "assert_trap": 5700, "assert_invalid": 6500,
		"assert_malformed": 2700, "assert_unlinkable": 350, "assert_uninstantiable": 70, "assert_exhaustion": 60,
	} {
		if counts.checks[kind] < least {
			t.Errorf("only %d commands of type %s", counts.checks[kind], kind)
		}
	}
	if counts.refill < 10_000 {
		t.Errorf("only %d refills", counts.refill)
	}
}

func sorted(m map[string]int) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// specRun is the run of one script.
type specRun struct {
	t              *testing.T
	dir            string
	features       api.CoreFeatures
	disabled       bool // the suite is of features that a node does not enable
	agree          bool // what the script expects does not hold with these features
	files          string
	counts         *specCounts
	plain, metered *specSide
}

func (r *specRun) script(commands []specCommand) {
	r.plain = newSpecSide(r.t, r.dir, r.features, false)
	r.metered = newSpecSide(r.t, r.dir, r.features, true)
	for i := 0; i < len(commands); i++ {
		c := commands[i]
		if c.ModuleType == "text" {
			r.counts.add(r.counts.skips, "in the text format, which is no input of the engine or the meter")
			continue
		}
		registered := ""
		if c.Type == "module" && i+1 < len(commands) && commands[i+1].Type == "register" {
			registered = commands[i+1].As
			i++
		}
		r.command(c, registered)
	}
	want, got := r.plain.state(), r.metered.state()
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			r.t.Errorf("at the end: %s; metered: %s", want[i], got[i])
		}
	}
	if len(want) != len(got) {
		r.t.Errorf("at the end %d parts of state, metered %d", len(want), len(got))
	}
	r.counts.mu.Lock()
	r.counts.refill += r.metered.host.calls
	r.counts.mu.Unlock()
}

// command runs one on both sides, compares them, and then with what is expected.
func (r *specRun) command(c specCommand, registered string) {
	at := fmt.Sprintf("line %d: %s %s%s", c.Line, c.Type, c.Filename, c.Action.Field)
	var plain, metered outcome
	switch c.Type {
	case "module", "assert_invalid", "assert_malformed", "assert_unlinkable", "assert_uninstantiable":
		wasm := read(r.t, filepath.Join(r.files, c.Filename))
		if r.agree {
			// The engine accepts, without the feature, some that use a part of it; the meter none.
			if _, err := meter.Rewrite(wasm, meter.Options{}); errors.Is(err, meter.ErrUnsupported) {
				if c.Type == "module" {
					r.plain.last, r.metered.last = nil, nil
				}
				r.counts.add(r.counts.skips, "uses features that are not enabled")
				return
			}
		}
		// A module that is to fail does not become the one that actions are about.
		last, lastMetered := r.plain.last, r.metered.last
		plain = r.plain.instantiate(wasm, c.Name, registered)
		metered = r.metered.instantiate(wasm, c.Name, registered)
		if c.Type != "module" {
			r.plain.last, r.metered.last = last, lastMetered
		}
	case "assert_return", "assert_trap", "assert_exhaustion", "assert_exception", "action":
		var here, there bool
		metered, there = r.metered.do(c.Action)
		if r.agree && !r.disabled && c.Type == "assert_exhaustion" {
			// The engine's own limit is at 400 MB of stack, which costs more than all else here.
			here, plain = there, outcome{failure: "stack overflow"}
		} else {
			plain, here = r.plain.do(c.Action)
		}
		if here != there {
			r.t.Errorf("%s: the module is there: %t, metered: %t", at, here, there)
		}
		if !here {
			if !r.agree {
				r.t.Errorf("%s: no module", at)
			}
			r.counts.add(r.counts.skips, "of a module that uses features that are not enabled")
			return
		}
	default:
		r.t.Fatalf("%s: unknown command", at)
	}
	r.counts.add(r.counts.checks, c.Type)
	if err := r.metered.settle(metered.failure != ""); err != nil {
		r.t.Errorf("%s: %v", at, err)
	}
	if !plain.same(metered) {
		r.t.Errorf("%s: %v; metered: %v", at, plain, metered)
	}
	if r.agree {
		return
	}
	if err := expect(c, plain); err != nil {
		for _, d := range specDeviations {
			if d.match(c, plain) {
				r.counts.add(r.counts.skips, "expectation only: "+d.reason)
				return
			}
		}
		r.t.Errorf("%s: %v", at, err)
	}
}

// expect compares an outcome with what a script demands.
func expect(c specCommand, o outcome) error {
	ok := true
	switch c.Type {
	case "module", "action":
		ok = o.refused == nil && o.failure == ""
	case "assert_return":
		ok = o.refused == nil && o.failure == "" && specEqual(c.Expected, o.values)
	case "assert_trap":
		ok = o.failure == trapOf(c.Text)
	case "assert_exhaustion":
		ok = o.failure == "stack overflow"
	case "assert_invalid", "assert_malformed":
		ok = o.refused != nil || o.failure != ""
	case "assert_unlinkable":
		ok = o.refused != nil || o.failure != ""
	case "assert_uninstantiable":
		ok = o.failure == trapOf(c.Text)
	}
	if ok {
		return nil
	}
	return fmt.Errorf("%v, where %s %v was expected", o, c.Text, c.Expected)
}

// trapOf is the engine's name of a trap in a script.
func trapOf(text string) string {
	switch {
	case text == "undefined element", text == "undefined", text == "out of bounds table access", strings.HasPrefix(text, "uninitialized"):
		return "invalid table access"
	case text == "indirect call":
		return "indirect call type mismatch"
	default:
		return text
	}
}
