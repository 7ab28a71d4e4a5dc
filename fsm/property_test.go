package fsm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

// TestP2_StatePreservedAcrossCrashes kills a peer at random moments. It comes
// back from its last snapshot and the log after it, with all that it knew.
func TestP2_StatePreservedAcrossCrashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var gen commandGen
		m := newMachine(t, smallOptions)
		gen.warm(m)
		saved := New(smallOptions).State() // before any snapshot was taken
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			m.do(gen.draw(t, m.fsm.State()))
			switch rapid.IntRange(0, 9).Draw(t, "event") {
			case 0:
				saved = m.fsm.State()
			case 1:
				before := m.fsm.State()
				m.fsm = throughSnapshot(t, saved, smallOptions)
				for n := saved.Index(); n < uint64(len(m.log)); n++ {
					m.fsm.Apply(n+1, m.log[n])
				}
				after := m.fsm.State()
				if after.Hash() != before.Hash() || after.Cluster() != before.Cluster() {
					t.Fatalf("the state after the crash is another")
				}
				for i := range before.Instances("") {
					now, ok := after.Instance(i.ID)
					if !ok || now.Status != i.Status || now.Crashes != i.Crashes || now.LastError != i.LastError {
						t.Fatalf("instance %+v came back as %+v", i, now)
					}
					for n, c := range before.Crashes(i.ID) {
						if d := after.Crashes(i.ID)[n]; d.Kind != c.Kind || d.At != c.At || d.Message != c.Message {
							t.Fatalf("crash %+v came back as %+v", c, d)
						}
					}
				}
			}
		}
	})
}

// TestP5_RegistryOfAssignmentsComplete holds the registry against a plain map.
func TestP5_RegistryOfAssignmentsComplete(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var gen commandGen
		m := newMachine(t, Options{}).seed("n1")
		for _, p := range []wasmatrix.ProviderID{"p0", "p1"} {
			m.do(wasmatrix.PutProvider{Provider: &wasmatrix.Provider{ID: p, Type: wasmatrix.ProviderKV}})
		}
		model := map[wasmatrix.InstanceID]map[wasmatrix.CapabilityID]string{}
		for n := range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				id := wasmatrix.InstanceID(fmt.Sprintf("i%d", n))
				a, b := gen.assignment(t), gen.assignment(t)
				given := []*wasmatrix.Assignment{a}
				model[id] = map[wasmatrix.CapabilityID]string{a.ID: fmt.Sprint(a.Permissions)}
				if a.ID != b.ID {
					given = append(given, b)
					model[id][b.ID] = fmt.Sprint(b.Permissions)
				}
				m.do(wasmatrix.StartInstances{Items: []wasmatrix.StartItem{{
					Spec: testSpec(0), Placements: []wasmatrix.Placement{{Instance: id, Node: "n1"}}, Assignments: given,
				}}})
			case 1:
				m.fsm = throughSnapshot(t, m.fsm.State(), Options{})
			case 2, 3:
				if len(model) == 0 {
					continue
				}
				a := gen.assignment(t)
				a.Instance = rapid.SampledFrom(slices.Sorted(maps.Keys(model))).Draw(t, "instance")
				if got, ok := m.do(wasmatrix.AssignCapability{Assignment: a}).(*wasmatrix.Assignment); !ok || got.ID != a.ID {
					t.Fatalf("assign: %v", got)
				}
				model[a.Instance][a.ID] = fmt.Sprint(a.Permissions)
			default:
				if len(model) == 0 {
					continue
				}
				id := rapid.SampledFrom(slices.Sorted(maps.Keys(model))).Draw(t, "instance")
				c := pick[wasmatrix.CapabilityID](t, "c", 3)
				code := wasmatrix.CodeCapabilityNotFound
				if _, ok := model[id][c]; ok {
					code = ""
				}
				wantCode(t, m.do(wasmatrix.RevokeCapability{Instance: id, Capability: c}), code)
				delete(model[id], c)
			}
			s := m.fsm.State()
			for id, want := range model {
				got := map[wasmatrix.CapabilityID]string{}
				for a := range s.Assignments(id) {
					got[a.ID] = fmt.Sprint(a.Permissions)
					if one, ok := s.Assignment(id, a.ID); !ok || one != a {
						t.Fatalf("%s %s is listed and not found", id, a.ID)
					}
				}
				if !maps.Equal(got, want) {
					t.Fatalf("instance %s has %v, want %v", id, got, want)
				}
			}
		}
	})
}

// TestP6_Lifecycle: an operation on one instance touches no other; a started
// instance can be queried; one that was stopped stays so, and starting again
// makes another.
func TestP6_Lifecycle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t, Options{}).seed("n1", "n2")
		next := 0
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			before := m.fsm.State()
			var touched wasmatrix.InstanceID
			known := slices.Collect(before.Instances(""))
			if len(known) == 0 || rapid.IntRange(0, 2).Draw(t, "start") == 0 {
				touched = wasmatrix.InstanceID(fmt.Sprintf("i%03d", next))
				next++
				m.start(touched, rapid.SampledFrom([]wasmatrix.NodeID{"n1", "n2", ""}).Draw(t, "node"), wasmatrix.RestartAlways)
				i := m.instance(touched)
				if i.Restarts != 0 || i.Crashes != 0 || i.CreateIndex != m.fsm.State().Index() || i.StopRequested {
					t.Fatalf("a new instance begins as %+v", i)
				}
			} else {
				i := rapid.SampledFrom(known).Draw(t, "instance")
				touched = i.ID
				switch rapid.IntRange(0, 3).Draw(t, "operation") {
				case 0:
					wantCode(t, orNil(m.do(wasmatrix.StopInstances{Items: []wasmatrix.StopItem{{Instance: i.ID}}}).([]*wasmatrix.Error)[0]), "")
					if now := m.instance(i.ID); !now.StopRequested && !i.Status.Final() {
						t.Fatalf("asked to stop: %+v", now)
					}
				case 1:
					want := wasmatrix.Code("")
					if i.Status.Final() || i.StopRequested {
						want = wasmatrix.CodeRestartPolicyViolation
					}
					least := i.Epoch + uint64(rapid.IntRange(0, 3).Draw(t, "least epoch"))
					answer := m.do(wasmatrix.RestartInstance{Instance: i.ID, MinEpoch: least})
					wantCode(t, answer, want)
					if want == "" && i.Status.OnNode() && answer.(*wasmatrix.Instance).Epoch != max(i.Epoch+1, least) {
						t.Fatalf("restarted %+v from epoch %d on: %+v", i, least, answer)
					}
				default:
					status := wasmatrix.StatusRunning
					if i.StopRequested {
						status = wasmatrix.StatusStopped
					}
					changed := m.report(i.Node, "boot-1", wasmatrix.Report{Instance: i.ID, Epoch: i.Epoch, Attempt: max(i.Attempt, 1), Seq: i.Seq + 1, Status: status})
					if changed[0] != i.Status.OnNode() {
						t.Fatalf("a report about %+v changed something: %v", i, changed)
					}
					if i.Status.OnNode() && m.instance(i.ID).Status != status {
						t.Fatalf("reported %s, is %+v", status, m.instance(i.ID))
					}
				}
				if i.Status.Final() {
					if m.instance(i.ID) != i {
						t.Fatalf("a final instance changed: %+v", m.instance(i.ID))
					}
					r := m.do(wasmatrix.StartInstances{Items: []wasmatrix.StartItem{{Spec: testSpec(0), Placements: []wasmatrix.Placement{{Instance: i.ID, Node: "n1"}}}}}).([]wasmatrix.StartResult)
					wantCode(t, r[0].Err, wasmatrix.CodeConflict)
				}
			}
			for _, i := range known {
				if now := m.instance(i.ID); i.ID != touched && now != i {
					t.Fatalf("%s was touched by an operation on %s: %+v", i.ID, touched, now)
				}
			}
		}
		checkInvariants(t, m.fsm.State(), Options{})
	})
}

// executions draws what a node may say about one epoch, in order.
func executions(t *rapid.T, node wasmatrix.NodeID, id wasmatrix.InstanceID) []wasmatrix.Report {
	var out []wasmatrix.Report
	attempt := uint32(1)
	say := func(s wasmatrix.Status, r wasmatrix.Report) {
		r.Instance, r.Epoch, r.Attempt, r.Status = id, 1, attempt, s
		r.Seq = uint64(len(out) + 1)
		r.Reason = fmt.Sprintf("report %d", r.Seq)
		r.At = wasmatrix.Time(r.Seq)
		out = append(out, r)
	}
	end := rapid.SampledFrom([]wasmatrix.Status{wasmatrix.StatusRunning, wasmatrix.StatusStopped, wasmatrix.StatusCrashed}).Draw(t, "end")
	for range rapid.IntRange(0, 4).Draw(t, "restarts") {
		say(wasmatrix.StatusStarting, wasmatrix.Report{})
		if rapid.Bool().Draw(t, "ran") {
			say(wasmatrix.StatusRunning, wasmatrix.Report{})
		}
		if rapid.Bool().Draw(t, "exited") {
			zero := int32(0)
			say(wasmatrix.StatusBackoff, wasmatrix.Report{ExitCode: &zero})
		} else {
			say(wasmatrix.StatusBackoff, wasmatrix.Report{Error: wasmatrix.CodeCrashDetected, Crash: &wasmatrix.Crash{Kind: wasmatrix.CrashTrap, Node: node}})
		}
		attempt++
	}
	say(wasmatrix.StatusStarting, wasmatrix.Report{})
	say(wasmatrix.StatusRunning, wasmatrix.Report{})
	switch end {
	case wasmatrix.StatusStopped:
		say(end, wasmatrix.Report{})
	case wasmatrix.StatusCrashed:
		say(end, wasmatrix.Report{Error: wasmatrix.CodeRestartPolicyViolation, Crash: &wasmatrix.Crash{Kind: wasmatrix.CrashExit}})
	default:
	}
	return out
}

// TestP9_ReportsConverge: a node sends in order and again from the first that
// was not acknowledged, and the network loses and doubles what it likes: the
// record is the same as if each had come once. Where it reorders them besides,
// everything but the history in between (the crashes that were overtaken) is
// the same.
func TestP9_ReportsConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fresh := func() *machine {
			m := newMachine(t, Options{}).seed("n1")
			m.start("i", "n1", wasmatrix.RestartAlways)
			return m
		}
		reports := executions(t, "n1", "i")
		once := fresh()
		for _, r := range reports {
			once.report("n1", "boot-1", r)
		}

		retried := fresh()
		for acked := 0; acked < len(reports); {
			batch := reports[acked : acked+rapid.IntRange(1, len(reports)-acked).Draw(t, "batch")]
			if rapid.IntRange(0, 3).Draw(t, "arrives") == 0 {
				continue // lost on the way there
			}
			for range rapid.IntRange(1, 2).Draw(t, "copies") {
				retried.report("n1", "boot-1", batch...)
			}
			if rapid.Bool().Draw(t, "acknowledged") {
				acked += len(batch)
			}
		}

		shuffled := fresh()
		for _, r := range rapid.Permutation(slices.Concat(reports, reports)).Draw(t, "order") {
			shuffled.report("n1", "boot-1", r)
		}

		// Log indexes differ, since the logs do.
		record := func(m *machine) string {
			i := *m.instance("i")
			i.ModifyIndex, i.Spec = 0, nil
			exit := "none"
			if i.ExitCode != nil {
				exit = fmt.Sprint(*i.ExitCode)
				i.ExitCode = nil
			}
			var crashes []string
			for _, c := range m.fsm.State().Crashes("i") {
				crashes = append(crashes, fmt.Sprintf("%+v", *c))
			}
			return fmt.Sprintf("%+v exit %s crashes %v", i, exit, crashes)
		}
		if got, want := record(retried), record(once); got != want {
			t.Fatalf("with losses and copies\n%s\nwithout\n%s", got, want)
		}
		latest := func(m *machine) string {
			i := m.instance("i")
			return fmt.Sprintf("%s %d.%d/%d %s restarts %d", i.Status, i.Epoch, i.Attempt, i.Seq, i.Reason, i.Restarts)
		}
		if got, want := latest(shuffled), latest(once); got != want {
			t.Fatalf("in another order\n%s\nin order\n%s", got, want)
		}
		for _, m := range []*machine{once, retried, shuffled} {
			checkInvariants(t, m.fsm.State(), Options{})
		}
	})
}

// TestP13_FactsCompleteAndGapless reads the facts as a follower that comes back
// at random moments: it gets each exactly once, or is told which it missed. And
// what the facts of an instance say is what its record says.
func TestP13_FactsCompleteAndGapless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var gen commandGen
		opts := Options{MaxFacts: 60, RequestWindow: time.Minute, MaxRequests: 50}
		m := newMachine(t, opts)
		follow, missed := uint64(1), false
		told := map[wasmatrix.InstanceID]wasmatrix.FactKind{}
		read := func() {
			s := m.fsm.State()
			if first, _ := s.FactRange(); first > follow {
				follow, missed = first, true
			}
			for f := range s.Facts(follow) {
				if f.Index != follow {
					t.Fatalf("got fact %d, waited for %d", f.Index, follow)
				}
				follow++
				switch f.Kind {
				case wasmatrix.FactAssigned, wasmatrix.FactRevoked, wasmatrix.FactDenied, wasmatrix.FactStopRequested:
				default:
					told[f.Instance] = f.Kind
				}
			}
			if _, last := s.FactRange(); follow != last+1 {
				t.Fatalf("facts end at %d, the range says %d", follow-1, last)
			}
		}
		gen.warm(m)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			m.do(gen.draw(t, m.fsm.State()))
			if rapid.IntRange(0, 9).Draw(t, "crash") == 0 {
				m.fsm = throughSnapshot(t, m.fsm.State(), opts)
			}
			if rapid.IntRange(0, 3).Draw(t, "away") > 0 {
				read()
			}
		}
		read()
		if missed {
			return
		}
		for i := range m.fsm.State().Instances("") {
			var says []wasmatrix.Status
			switch told[i.ID] {
			case wasmatrix.FactRequested:
				says = []wasmatrix.Status{wasmatrix.StatusPending}
			case wasmatrix.FactPlaced, wasmatrix.FactMoved, wasmatrix.FactRestarting, wasmatrix.FactRestartRequested:
				says = []wasmatrix.Status{wasmatrix.StatusStarting}
			case wasmatrix.FactStarted:
				says = []wasmatrix.Status{wasmatrix.StatusRunning}
			case wasmatrix.FactCrashed:
				says = []wasmatrix.Status{wasmatrix.StatusBackoff}
			case wasmatrix.FactExited:
				says = []wasmatrix.Status{wasmatrix.StatusBackoff, wasmatrix.StatusStopped}
			case wasmatrix.FactFailed:
				says = []wasmatrix.Status{wasmatrix.StatusCrashed}
			case wasmatrix.FactStopped:
				says = []wasmatrix.Status{wasmatrix.StatusStopped}
			case wasmatrix.FactLost:
				says = []wasmatrix.Status{wasmatrix.StatusLost}
			default:
			}
			if !slices.Contains(says, i.Status) {
				t.Fatalf("instance %s is %s, and the last fact about it is %q", i.ID, i.Status, told[i.ID])
			}
		}
	})
}

// TestP21_ProviderAndInstanceMetadataSeparate: commands about one leave every
// record of the other as it is.
func TestP21_ProviderAndInstanceMetadataSeparate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var gen commandGen
		m := newMachine(t, smallOptions)
		gen.warm(m)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			before := m.fsm.State()
			c := gen.draw(t, before)
			m.do(c)
			after := m.fsm.State()
			switch c.(type) {
			case wasmatrix.PutProvider, wasmatrix.RemoveProvider:
				if !slices.Equal(slices.Collect(before.Instances("")), slices.Collect(after.Instances(""))) ||
					!slices.Equal(slices.Concat(before.assignments.Values()...), slices.Concat(after.assignments.Values()...)) {
					t.Fatalf("%T changed an instance", c)
				}
			default:
				if !slices.Equal(slices.Collect(before.Providers()), slices.Collect(after.Providers())) {
					t.Fatalf("%T changed a provider", c)
				}
			}
		}
	})
}

// TestP7_StateStaysBounded: whatever a node reports, and however often.
func TestP7_StateStaysBounded(t *testing.T) {
	m := newMachine(t, Options{MaxFacts: 100}).seed("n1")
	m.start("i", "n1", wasmatrix.RestartAlways)
	endless := strings.Repeat("ü", 1<<10) // cut within a character unless care is taken
	stack := slices.Repeat([]string{endless}, 20)
	for n := range 3 * wasmatrix.MaxCrashes {
		m.report("n1", "boot-1", wasmatrix.Report{
			Instance: "i", Epoch: 1, Attempt: uint32(n + 1), Seq: uint64(n + 1), Status: wasmatrix.StatusBackoff, Reason: "x" + endless,
			Error: wasmatrix.Code(endless), Crash: &wasmatrix.Crash{Kind: wasmatrix.CrashKind(endless), Message: "x" + endless, Stack: stack},
		})
	}
	m.do(wasmatrix.MarkNodeDown{Node: "n1", Boot: "boot-1", Reason: "x" + endless})
	s := m.fsm.State()
	i := m.instance("i")
	bounded := func(what, text string, n int) {
		t.Helper()
		if len(text) > n || len(text) < n-3 || !utf8.ValidString(text) {
			t.Errorf("%s has %d bytes, at most %d are allowed", what, len(text), n)
		}
	}
	bounded("reason", i.Reason, wasmatrix.MaxReason)
	bounded("last error", string(i.LastError), maxID)
	n, _ := s.Node("n1")
	bounded("node's reason", n.Reason, wasmatrix.MaxReason)
	crashes := s.Crashes("i")
	if len(crashes) != wasmatrix.MaxCrashes || i.Crashes != 3*wasmatrix.MaxCrashes || crashes[len(crashes)-1].Attempt != 3*wasmatrix.MaxCrashes {
		t.Errorf("%d crashes are kept of %d", len(crashes), i.Crashes)
	}
	for _, c := range crashes {
		bounded("kind", string(c.Kind), maxID)
		bounded("message", c.Message, wasmatrix.MaxCrashMessage)
		if len(c.Stack) != wasmatrix.MaxCrashFrames {
			t.Errorf("%d frames", len(c.Stack))
		}
		for _, f := range c.Stack {
			bounded("frame", f, wasmatrix.MaxCrashFrame)
		}
	}
	checkInvariants(t, s, Options{MaxFacts: 100})
}
