package fsm

import (
	"slices"

	"github.com/wasmatrix/wasmatrix"
)

// checkInvariants derives every index from the records anew and compares.
func checkInvariants(tb fataler, s *State, opts Options) {
	tb.Helper()
	opts = opts.withDefaults()
	statuses := map[wasmatrix.Status]int{}
	usage := map[wasmatrix.NodeID]wasmatrix.Capacity{}
	held := map[wasmatrix.NodeID][]wasmatrix.InstanceID{}
	users := map[wasmatrix.Digest]int{}
	var unplaced, final []*wasmatrix.Instance
	assignments, crashes, count := 0, 0, 0
	last := wasmatrix.InstanceID("")
	for i := range s.Instances("") {
		count++
		if i.ID <= last {
			tb.Fatalf("instance %s follows %s", i.ID, last)
		}
		last = i.ID
		statuses[i.Status]++
		if !i.Status.Final() {
			users[i.Spec.Module]++
		}
		switch {
		case i.Status.OnNode():
			usage[i.Node] = usage[i.Node].Plus(i.Spec.Demand())
			held[i.Node] = append(held[i.Node], i.ID)
			if n, ok := s.Node(i.Node); !ok || n.Status != wasmatrix.NodeUp {
				tb.Fatalf("instance %s is on node %q, which is not up", i.ID, i.Node)
			}
			if i.Epoch == 0 {
				tb.Fatalf("instance %s is placed in epoch 0", i.ID)
			}
		case i.Status.Unplaced():
			unplaced = append(unplaced, i)
			if i.StopRequested {
				tb.Fatalf("instance %s waits for a place although it was asked to stop", i.ID)
			}
			if (i.Status == wasmatrix.StatusPending) != (i.Epoch == 0) {
				tb.Fatalf("instance %s is %s in epoch %d", i.ID, i.Status, i.Epoch)
			}
		case i.Status.Final():
			final = append(final, i)
		default:
			tb.Fatalf("instance %s has status %s", i.ID, i.Status)
		}
		if i.ModifyIndex > s.Index() || i.CreateIndex > i.ModifyIndex || i.ChangedAt > s.Now() {
			tb.Fatalf("instance %s is of the future: %+v", i.ID, i)
		}
		if want := min(int(i.Crashes), wasmatrix.MaxCrashes); len(s.Crashes(i.ID)) != want {
			tb.Fatalf("instance %s crashed %d times and has %d crashes", i.ID, i.Crashes, len(s.Crashes(i.ID)))
		}
		crashes += len(s.Crashes(i.ID))
		all := slices.Collect(s.Assignments(i.ID))
		assignments += len(all)
		for n, a := range all {
			if a.Instance != i.ID || n > 0 && all[n-1].ID >= a.ID {
				tb.Fatalf("assignments of %s: %+v", i.ID, all)
			}
		}
	}
	if count != s.InstanceCount() || assignments != s.assignmentCount || crashes != s.crashCount {
		tb.Fatalf("%d instances, %d assignments, %d crashes; counted %d, %d, %d",
			count, assignments, crashes, s.InstanceCount(), s.assignmentCount, s.crashCount)
	}
	listed := 0
	s.assignments.Scan(func(_ wasmatrix.InstanceID, all []*wasmatrix.Assignment) bool { listed += len(all); return true })
	if listed != assignments {
		tb.Fatalf("%d assignments are of no instance", listed-assignments)
	}
	listed = 0
	s.crashes.Scan(func(_ wasmatrix.InstanceID, all []*wasmatrix.Crash) bool { listed += len(all); return true })
	if listed != crashes {
		tb.Fatalf("%d crashes are of no instance", listed-crashes)
	}
	for st := wasmatrix.StatusUnknown; st <= wasmatrix.StatusCrashed; st++ {
		if s.StatusCount(st) != statuses[st] {
			tb.Fatalf("%d instances are %s, counted %d", statuses[st], st, s.StatusCount(st))
		}
	}
	byModifyIndex := func(a, b *wasmatrix.Instance) int {
		if a.ModifyIndex != b.ModifyIndex {
			return int(a.ModifyIndex) - int(b.ModifyIndex)
		}
		if a.ID < b.ID {
			return -1
		}
		return 1
	}
	slices.SortFunc(unplaced, byModifyIndex)
	slices.SortFunc(final, byModifyIndex)
	if got := slices.Collect(s.Unplaced()); !slices.Equal(got, unplaced) {
		tb.Fatalf("unplaced are %v, listed %v", unplaced, got)
	}
	if got := s.final.Items(); !slices.Equal(got, final) {
		tb.Fatalf("final are %v, listed %v", final, got)
	}
	for n := range s.Nodes() {
		if s.Usage(n.ID) != usage[n.ID] {
			tb.Fatalf("usage of %s is %+v, counted %+v", n.ID, usage[n.ID], s.Usage(n.ID))
		}
		var ids []wasmatrix.InstanceID
		for i := range s.InstancesOn(n.ID) {
			if rec, _ := s.Instance(i.ID); rec != i {
				tb.Fatalf("node %s has an old record of %s", n.ID, i.ID)
			}
			ids = append(ids, i.ID)
		}
		if !slices.Equal(ids, held[n.ID]) {
			tb.Fatalf("node %s holds %v, listed %v", n.ID, held[n.ID], ids)
		}
	}
	names := 0
	for m := range s.Modules() {
		if s.ModuleUsers(m.Digest) != users[m.Digest] {
			tb.Fatalf("module %s has %d users, counted %d", m.Digest.Short(), users[m.Digest], s.ModuleUsers(m.Digest))
		}
		delete(users, m.Digest)
		for _, name := range s.ModuleNames(m.Digest) {
			names++
			if named, ok := s.ModuleNamed(name); !ok || named != m {
				tb.Fatalf("name %q does not lead to its module", name)
			}
		}
		if !slices.IsSorted(s.ModuleNames(m.Digest)) {
			tb.Fatalf("names of %s are not sorted: %v", m.Digest.Short(), s.ModuleNames(m.Digest))
		}
	}
	if len(users) > 0 || names != s.names.Len() {
		tb.Fatalf("%d modules are used but gone, %d names lead nowhere", len(users), s.names.Len()-names)
	}
	checkFacts(tb, s, opts)
	checkWindow(tb, s, opts)
}

func checkFacts(tb fataler, s *State, opts Options) {
	tb.Helper()
	first, last := s.FactRange()
	if s.facts.len() > opts.MaxFacts {
		tb.Fatalf("%d facts are kept", s.facts.len())
	}
	next, at := first, wasmatrix.Time(0)
	for f := range s.Facts(0) {
		if f.Index != next || f.At < at || f.At > s.Now() {
			tb.Fatalf("fact %d at %d is in the place of %d at %d", f.Index, f.At, next, at)
		}
		if len(f.Reason) > wasmatrix.MaxReason || f.Kind == "" {
			tb.Fatalf("fact %+v", f)
		}
		next, at = next+1, f.At
	}
	if next != last+1 {
		tb.Fatalf("facts end at %d, range says %d", next-1, last)
	}
}

func checkWindow(tb fataler, s *State, opts Options) {
	tb.Helper()
	if s.window.byAge.len() > opts.MaxRequests || s.window.byAge.len() != s.window.byID.Len() {
		tb.Fatalf("%d requests by age, %d by ID", s.window.byAge.len(), s.window.byID.Len())
	}
	at := wasmatrix.Time(0)
	for _, r := range s.window.byAge.from(0) {
		if got := s.window.get((*r).id); got != *r || (*r).at < at {
			tb.Fatalf("request %+v", *r)
		}
		at = (*r).at
	}
}
