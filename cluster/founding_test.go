package cluster

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wasmatrix/wasmatrix"
)

// world is a control group as founding sees it: servers with terms on their
// disks, leaders that may not know that they are deposed, messages that are lost,
// late, or answered in vain, and voters that change.
type world struct {
	t         *testing.T
	rand      *rand.Rand
	ids       []wasmatrix.ServerID
	terms     map[wasmatrix.ServerID]uint64   // on disk
	disks     map[wasmatrix.ServerID]founding // likewise
	unable    map[wasmatrix.ServerID]bool     // of a release without the group
	acceptors map[wasmatrix.ServerID]*acceptor
	proposers map[wasmatrix.ServerID]*proposer
	leads     map[wasmatrix.ServerID]uint64   // the term in which it takes itself for the leader
	views     map[wasmatrix.ServerID][]Server // the voters as that leader knows them
	voters    []Server                        // committed
	late      []func()
	depth     int
	cut       map[wasmatrix.ServerID]bool              // gets no messages for a while
	before    func(to wasmatrix.ServerID, req request) // called when a message arrives, where set
	trouble   int                                      // in a hundred messages
	busy      map[*proposer]bool                       // in a call
	chosen    []founder
	log       []string
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, rand: rand.New(rand.NewPCG(seed, 0)), terms: make(map[wasmatrix.ServerID]uint64), disks: make(map[wasmatrix.ServerID]founding),
		unable: make(map[wasmatrix.ServerID]bool), acceptors: make(map[wasmatrix.ServerID]*acceptor),
		proposers: make(map[wasmatrix.ServerID]*proposer), leads: make(map[wasmatrix.ServerID]uint64),
		views: make(map[wasmatrix.ServerID][]Server), busy: make(map[*proposer]bool),
		cut: make(map[wasmatrix.ServerID]bool),
	}
	w.trouble = w.rand.IntN(30)
	for i := range 6 {
		id := wasmatrix.ServerID(fmt.Sprintf("%c.00000000", 'a'+i))
		w.ids = append(w.ids, id)
		w.terms[id] = 1
		w.unable[id] = w.rand.IntN(20) == 0
		w.restart(id)
	}
	for _, id := range w.ids[:1+w.rand.IntN(5)] {
		w.voters = append(w.voters, Server{ID: id, Addr: "at " + string(id), Voter: true})
	}
	return w
}

func pick[T any](w *world, from []T) T { return from[w.rand.IntN(len(from))] }

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) {
	for _, l := range w.log {
		w.t.Log(l)
	}
	w.t.Fatalf(format, args...)
}

// restart begins a process of a server anew, with what is on its disk.
func (w *world) restart(id wasmatrix.ServerID) {
	delete(w.leads, id)
	w.acceptors[id] = &acceptor{
		kept: w.disks[id],
		term: func() uint64 { return w.terms[id] },
		save: func(f founding) error {
			if w.disks[id].Chosen && !f.Chosen {
				w.fail("%s forgot that %+v is chosen", id, w.disks[id])
			}
			w.disks[id] = f
			return nil
		},
	}
	w.proposers[id] = &proposer{group: "kv", ask: func(_ context.Context, servers []Server, req request) map[wasmatrix.ServerID]answer {
		return w.ask(id, servers, req)
	}}
}

// ask delivers a request, or not, and lets other things happen meanwhile.
func (w *world) ask(from wasmatrix.ServerID, servers []Server, req request) map[wasmatrix.ServerID]answer {
	lost := answer{err: wasmatrix.Errorf(wasmatrix.CodeCommunication, "lost")}
	out := make(map[wasmatrix.ServerID]answer)
	for _, s := range servers {
		if w.depth < 3 && w.rand.IntN(10) == 0 {
			for range 1 + w.rand.IntN(8) {
				w.step()
			}
		}
		out[s.ID] = lost
		what := "answered"
		if w.cut[s.ID] {
			what = pick(w, []string{"lost", "late"})
		} else if w.rand.IntN(100) < w.trouble {
			what = pick(w, []string{"lost", "unanswered", "late"})
		}
		w.note("%s asks %s to %s in %d with %v: %s", from, s.ID, req.Op, req.Term, req.Founders, what)
		switch what {
		case "answered":
			out[s.ID] = w.deliver(s.ID, req)
		case "unanswered":
			w.deliver(s.ID, req)
		case "late":
			w.late = append(w.late, func() { w.deliver(s.ID, req) })
		}
	}
	return out
}

func (w *world) deliver(to wasmatrix.ServerID, req request) answer {
	if before := w.before; before != nil {
		w.before = nil
		before(to, req)
		w.before = before
	}
	if w.unable[to] {
		return answer{err: &controlError{Code: wasmatrix.CodeInvalidRequest}}
	}
	a := w.acceptors[to]
	switch req.Op {
	case opPrepare:
		f, err := a.prepare(req.Term)
		return answer{&response{Founding: &f}, err}
	case opAccept:
		return answer{&response{}, a.accept(req.Term, req.Founders)}
	default:
		if err := a.learn(req.Founders); err != nil {
			w.fail("%s: %v", to, err)
		}
		return answer{&response{}, nil}
	}
}

// majority draws one of the servers, at most in a term, and with one of them if
// that is not "".
func (w *world) majority(servers []Server, term uint64, with wasmatrix.ServerID) []Server {
	var may, out []Server
	for _, s := range servers {
		if s.ID == with {
			out = append(out, s)
		} else if w.terms[s.ID] <= term {
			may = append(may, s)
		}
	}
	w.rand.Shuffle(len(may), func(i, j int) { may[i], may[j] = may[j], may[i] })
	for _, s := range may {
		if len(out) > len(servers)/2 {
			break
		}
		out = append(out, s)
	}
	if len(out) <= len(servers)/2 {
		return nil
	}
	return out
}

func (w *world) elect() {
	leader := pick(w, w.voters).ID
	w.electBy(leader, w.majority(w.voters, math.MaxUint64, leader))
}

func (w *world) electBy(leader wasmatrix.ServerID, by []Server) {
	term := uint64(0)
	for _, t := range w.terms {
		term = max(term, t+1)
	}
	for _, s := range by {
		w.terms[s.ID] = term
	}
	w.leads[leader], w.views[leader] = term, slices.Clone(w.voters)
	w.note("%s is elected in %d, voters %v", leader, term, w.terms)
}

// change commits other voters, if a majority lets this leader.
func (w *world) change(leader wasmatrix.ServerID, term uint64, voters []Server) {
	if w.leads[leader] != term || w.terms[leader] != term || !slices.Equal(w.views[leader], w.voters) {
		return
	}
	with := wasmatrix.ServerID("")
	if _, ok := find(voters, leader); ok {
		with = leader
	}
	for _, s := range w.majority(voters, term, with) {
		w.terms[s.ID] = term
		with = "done"
	}
	if with == "done" {
		w.voters, w.views[leader] = voters, slices.Clone(voters)
		w.note("%s in %d changed the voters to %v", leader, term, voters)
	}
}

func (w *world) isChosen(founders []founder) {
	if w.chosen == nil {
		w.chosen = founders
		w.note("chosen: %v", founders)
	}
	if !slices.Equal(w.chosen, founders) {
		w.fail("both %v and %v were chosen", w.chosen, founders)
	}
}

func (w *world) found(leader wasmatrix.ServerID) {
	p := w.proposers[leader]
	chosen, _, err := p.settle(w.t.Context(), w.leads[leader], slices.Clone(w.views[leader]))
	if err != nil || chosen == nil {
		return
	}
	w.isChosen(chosen)
	p.tell(w.t.Context(), w.views[leader], chosen)
}

func (w *world) step() {
	w.depth++
	defer func() { w.depth-- }()
	leader := wasmatrix.ServerID("")
	if len(w.leads) > 0 {
		leader = pick(w, slices.Sorted(maps.Keys(w.leads)))
	}
	term, view := w.leads[leader], slices.Clone(w.views[leader])
	p := w.proposers[leader]
	what := pick(w, []string{"elect", "found", "found", "found", "add", "remove", "remove", "crash", "late", "upgrade", "cut", "cut"})
	switch {
	case what == "elect":
		w.elect()
	case what == "cut":
		id := pick(w, w.ids)
		w.cut[id] = !w.cut[id]
	case what == "crash":
		id := pick(w, w.ids)
		if w.depth == 1 { // its own calls do not go on after a crash
			w.note("%s crashes", id)
			w.restart(id)
		}
	case what == "late" && len(w.late) > 0:
		i := w.rand.IntN(len(w.late))
		deliver := w.late[i]
		w.late = slices.Delete(w.late, i, i+1)
		w.note("a late message arrives")
		deliver()
	case what == "upgrade":
		w.unable[pick(w, w.ids)] = false
	case leader == "" || w.unable[leader] || w.busy[p]:
		// Calls of one proposer come one at a time.
	case what == "found":
		w.busy[p] = true
		w.found(leader)
		w.busy[p] = false
	case what == "add":
		s := Server{ID: pick(w, w.ids), Voter: true}
		s.Addr = "at " + string(s.ID)
		if _, ok := find(view, s.ID); ok {
			return
		}
		w.busy[p] = true
		if p.mayPromote(w.t.Context(), term, view, s) == nil {
			w.change(leader, term, append(view, s))
		}
		w.busy[p] = false
	case what == "remove" && len(view) > 1:
		s := pick(w, view)
		w.busy[p] = true
		if s.ID != leader && p.mayRemove(w.t.Context(), term, view, s.ID) == nil {
			w.change(leader, term, slices.DeleteFunc(view, func(o Server) bool { return o.ID == s.ID }))
		}
		w.busy[p] = false
	}
}

// TestAGroupBeginsOnce is the safety of founding: whatever is lost, late, or
// crashes, whoever is deposed, and however the voters change meanwhile, no two
// servers begin a group differently. And with everyone there it begins.
func TestAGroupBeginsOnce(t *testing.T) {
	for range *worlds {
		seed := rand.Uint64()
		w := newWorld(t, seed)
		w.note("seed %d", seed)
		for range 10 + w.rand.IntN(60) {
			w.step()
		}
		w.end()
	}
}

var worlds = flag.Int("worlds", 2000, "how many histories TestAGroupBeginsOnce plays")

// end has everything work, and sees the group begin.
func (w *world) end() {
	clear(w.unable)
	w.elect()
	leader := wasmatrix.ServerID("")
	for id, term := range w.leads {
		if leader == "" || term > w.leads[leader] {
			leader = id
		}
	}
	for _, s := range w.voters {
		w.terms[s.ID] = w.leads[leader]
	}
	w.proposers[leader].ask = func(_ context.Context, servers []Server, req request) map[wasmatrix.ServerID]answer {
		out := make(map[wasmatrix.ServerID]answer)
		for _, s := range servers {
			out[s.ID] = w.deliver(s.ID, req)
		}
		return out
	}
	w.found(leader)
	for _, s := range w.voters {
		if f := w.disks[s.ID]; !f.Chosen {
			w.fail("%s does not know how the group begins: %+v", s.ID, f)
		}
	}
}

// scripted is a world of voters a, b and so on in which nothing happens by chance.
func scripted(t *testing.T, voters int) *world {
	w := newWorld(t, 1)
	w.trouble, w.depth = 0, 3
	clear(w.unable)
	w.voters = nil
	for _, id := range w.ids[:voters] {
		w.voters = append(w.voters, Server{ID: id, Addr: "at " + string(id), Voter: true})
	}
	return w
}

func serverIDs(names string) (ids []wasmatrix.ServerID) {
	for _, c := range names {
		ids = append(ids, wasmatrix.ServerID(string(c)+".00000000"))
	}
	return ids
}

// reach lets messages get to these servers alone.
func (w *world) reach(names string) {
	for _, id := range w.ids {
		w.cut[id] = !slices.Contains(serverIDs(names), id)
	}
}

// elects has the first win a term by the votes of all named.
func (w *world) elects(names string) wasmatrix.ServerID {
	ids := serverIDs(names)
	by := make([]Server, 0, len(ids))
	for _, id := range ids {
		by = append(by, Server{ID: id})
	}
	w.electBy(ids[0], by)
	return ids[0]
}

func (w *world) settles(leader wasmatrix.ServerID) ([]founder, error) {
	chosen, _, err := w.proposers[leader].settle(w.t.Context(), w.leads[leader], slices.Clone(w.views[leader]))
	if chosen != nil {
		w.isChosen(chosen)
	}
	return chosen, err
}

// removes and adds report whether the change was allowed; it is made then, by
// the votes of those named and what else it takes.
func (w *world) removes(leader wasmatrix.ServerID, name string) bool {
	id, view := serverIDs(name)[0], w.views[leader]
	if w.proposers[leader].mayRemove(w.t.Context(), w.leads[leader], slices.Clone(view), id) != nil {
		return false
	}
	w.commit(leader, slices.DeleteFunc(slices.Clone(view), func(s Server) bool { return s.ID == id }))
	return true
}

func (w *world) adds(leader wasmatrix.ServerID, name string) bool {
	id, view := serverIDs(name)[0], w.views[leader]
	s := Server{ID: id, Addr: "at " + string(id), Voter: true}
	if w.proposers[leader].mayPromote(w.t.Context(), w.leads[leader], slices.Clone(view), s) != nil {
		return false
	}
	w.terms[id] = w.leads[leader]
	w.commit(leader, append(slices.Clone(view), s))
	return true
}

func (w *world) commit(leader wasmatrix.ServerID, voters []Server) {
	w.voters, w.views[leader] = voters, voters
}

// knows writes to the disks of servers that these founders are chosen.
func (w *world) knows(names, founders string) {
	for _, id := range serverIDs(names) {
		w.disks[id] = founding{Term: 1, Founders: foundersNamed(founders), Chosen: true}
		w.restart(id)
	}
}

func foundersNamed(names string) (out []founder) {
	for _, id := range serverIDs(names) {
		out = append(out, founder{ID: id, Addr: "at " + string(id)})
	}
	return out
}

func (w *world) mustKnow(names string) {
	w.t.Helper()
	for _, id := range serverIDs(names) {
		if !w.disks[id].Chosen {
			w.t.Errorf("%s does not know what is chosen", id)
		}
	}
}

// Those who know must not go until a majority is left that does not.
func TestARemovalLeavesAMajorityThatKnows(t *testing.T) {
	w := scripted(t, 5)
	w.knows("abc", "abcde")
	a := w.elects("abcde")
	w.reach("ab")
	if w.removes(a, "b") {
		t.Error("b was removed while the leader knew of nobody else who knows")
	}
	w.reach("abce")
	if !w.removes(a, "b") {
		t.Error("b was not removed though three of four know")
	}
	w.mustKnow("ace")
}

func TestAVoterKnows(t *testing.T) {
	w := scripted(t, 1)
	w.knows("a", "a")
	a := w.elects("a")
	w.reach("a")
	if w.adds(a, "b") {
		t.Error("b got a vote and does not know")
	}
	w.reach("ab")
	if !w.adds(a, "b") {
		t.Error("b got no vote")
	}
	w.mustKnow("b")
}

func TestVotersDoNotChangeWhileNothingIsClear(t *testing.T) {
	w := scripted(t, 3)
	a := w.elects("abc")
	w.reach("a")
	if w.removes(a, "b") || w.adds(a, "d") {
		t.Error("the voters changed though no majority has said that nothing is chosen")
	}
	w.reach("abd")
	if !w.adds(a, "d") || !w.removes(a, "d") || !w.removes(a, "c") {
		t.Error("the voters could not be changed though a majority has said that nothing is chosen")
	}

	w = scripted(t, 3)
	a = w.elects("abc")
	accepts := func(names string) {
		asked := w.ask
		w.proposers[a].ask = func(_ context.Context, servers []Server, req request) map[wasmatrix.ServerID]answer {
			if req.Op == opAccept {
				w.reach(names)
			}
			return asked(a, servers, req)
		}
	}
	accepts("c")
	if chosen, err := w.settles(a); chosen != nil || err == nil {
		t.Fatalf("one of three chose %v, %v", chosen, err)
	}
	accepts("")
	for _, change := range []func() bool{func() bool { return w.removes(a, "c") }, func() bool { return w.adds(a, "d") }} {
		w.reach("abd") // nobody there has accepted it
		if change() {
			t.Error("the voters changed while a proposal was under way")
		}
	}
	accepts("abc")
	w.reach("abc")
	if chosen, err := w.settles(a); chosen == nil || err != nil {
		t.Errorf("the proposal came to nothing: %v", err)
	}
}

// TestADeposedLeaderThatWasRemovedCannotBegin has a leader collect all answers
// and be held up before anyone hears its proposal. Meanwhile another leads, the
// voters become others, and those begin the group.
func TestADeposedLeaderThatWasRemovedCannotBegin(t *testing.T) {
	w := scripted(t, 3)
	a := w.elects("abc")
	w.before = func(_ wasmatrix.ServerID, req request) {
		if req.Op != opAccept || len(w.views) > 1 {
			return
		}
		c := w.elects("cb")
		if !w.adds(c, "d") || !w.adds(c, "e") || !w.removes(c, "a") {
			t.Fatal("the voters could not be changed")
		}
		if chosen, err := w.settles(c); chosen == nil || err != nil {
			t.Fatalf("the group did not begin without the deposed leader: %v", err)
		}
	}
	chosen, err := w.settles(a)
	if chosen != nil || err == nil {
		t.Errorf("the deposed leader got %v, %v", chosen, err)
	}
	if f := w.disks[a]; f.Chosen {
		t.Errorf("the deposed leader has %+v", f)
	}
}

// TestAnAnswerIsAPromise is the same with a server that answers and has not heard
// of the term in which it is asked.
func TestAnAnswerIsAPromise(t *testing.T) {
	w := scripted(t, 3)
	a, b := w.elects("abc"), serverIDs("b")[0]
	w.before = func(to wasmatrix.ServerID, req request) {
		if req.Op != opAccept || to != b || len(w.views) > 1 {
			return
		}
		// a has accepted its own proposal, and now votes for c.
		c := w.elects("ca")
		w.reach("bcde")
		for range 2 {
			if !w.adds(c, "d") || !w.adds(c, "e") || !w.removes(c, "a") || !w.removes(c, "b") {
				break
			}
			_, _ = w.settles(c)
		}
		w.reach("abcde")
	}
	_, _ = w.settles(a) // settles sees to it that nothing else is chosen
}

// A leader that is elected again must not go on with what it proposed before.
func TestAProposalIsOfOneTerm(t *testing.T) {
	w := scripted(t, 3)
	a := w.elects("abc")
	asked := w.proposers[a].ask
	w.proposers[a].ask = func(ctx context.Context, servers []Server, req request) map[wasmatrix.ServerID]answer {
		if req.Op == opAccept {
			w.reach("")
		}
		return asked(ctx, servers, req)
	}
	if chosen, err := w.settles(a); chosen != nil || err == nil {
		t.Fatalf("without anyone to accept it, %v is chosen, %v", chosen, err)
	}
	w.proposers[a].ask = asked
	w.reach("bcd")
	b := w.elects("bca")
	if !w.adds(b, "d") {
		t.Fatal("d got no vote")
	}
	w.reach("abcd")
	if chosen, err := w.settles(b); chosen == nil || err != nil {
		t.Fatalf("nothing is chosen: %v", err)
	}
	w.views[a] = w.voters
	w.elects("abcd")
	if chosen, err := w.settles(a); chosen == nil || err != nil {
		t.Errorf("elected again, it finds %v, %v", chosen, err)
	}
	if _, _, err := w.proposers[a].enter(1); wasmatrix.CodeOf(err) != wasmatrix.CodeNotLeader {
		t.Errorf("an earlier term = %v, want NOT_LEADER", err)
	}
}

func TestAnAcceptorKeepsItsWord(t *testing.T) {
	term, fails := uint64(2), false
	var disk founding
	a := &acceptor{term: func() uint64 { return term }, save: func(f founding) error {
		if fails {
			return wasmatrix.Errorf(wasmatrix.CodeStorage, "as asked")
		}
		disk = f
		return nil
	}}
	one, two := foundersNamed("a"), foundersNamed("ab")
	for _, other := range []uint64{1, 3} {
		if _, err := a.prepare(other); err == nil {
			t.Errorf("answered in term %d while in term 2", other)
		}
		if err := a.accept(other, one); err == nil || disk.Term != 0 {
			t.Errorf("accepted %+v of term %d while in term 2", disk, other)
		}
	}
	if err := a.accept(2, one); err != nil || !slices.Equal(disk.Founders, one) || disk.Term != 2 || disk.Chosen {
		t.Errorf("accepted %+v, %v", disk, err)
	}
	term, fails = 3, true
	if err := a.accept(3, two); err == nil {
		t.Error("accepted what the disk did not take")
	}
	if f, err := a.prepare(3); err != nil || f.Term != 2 || !slices.Equal(f.Founders, one) {
		t.Errorf("answers %+v, %v, which is not what the disk has", f, err)
	}
	fails = false
	if err := a.learn(two); err != nil || !disk.Chosen || !slices.Equal(disk.Founders, two) {
		t.Errorf("learned %+v, %v", disk, err)
	}
	if err := a.learn(one); wasmatrix.CodeOf(err) != wasmatrix.CodeInternal || !slices.Equal(disk.Founders, two) {
		t.Errorf("a second choice = %v, on disk %+v", err, disk)
	}
	if err := a.accept(3, one); err != nil || !disk.Chosen || !slices.Equal(disk.Founders, two) {
		t.Errorf("a proposal after the choice left %+v, %v", disk, err)
	}
}

func TestDecide(t *testing.T) {
	var voters []Server
	for _, id := range serverIDs("abc") {
		voters = append(voters, Server{ID: id, Addr: "at " + string(id), Voter: true})
	}
	none := founding{}
	of := func(term uint64, names string) founding { return founding{Term: term, Founders: foundersNamed(names)} }
	for what, tc := range map[string]struct {
		answers  string // who answered, with none unless said
		said     map[string]founding
		unable   string
		proposed string
		value    string
		chosen   bool
		absent   bool
		wait     string
	}{
		"all have none":                {answers: "abc", value: "abc"},
		"one is silent":                {answers: "ab", absent: true, wait: "no answer from c"},
		"two are silent":               {answers: "a", wait: "no answer from b, c"},
		"one does not know the group":  {answers: "ab", unable: "c", absent: true, wait: "the group is unknown to c"},
		"two do not know the group":    {answers: "a", unable: "bc", absent: true, wait: "the group is unknown to b, c"},
		"one does not, one is silent":  {answers: "a", unable: "b", absent: true, wait: "no answer from c; the group is unknown to b"},
		"one has accepted":             {answers: "ab", said: map[string]founding{"b": of(3, "bd")}, value: "bd"},
		"one has, too few answered":    {answers: "b", said: map[string]founding{"b": of(3, "bd")}, wait: "no answer from a, c"},
		"two have, of different terms": {answers: "abc", said: map[string]founding{"a": of(4, "ab"), "b": of(3, "bd"), "c": of(2, "c")}, value: "ab"},
		"one knows":                    {answers: "b", said: map[string]founding{"b": {Founders: foundersNamed("x"), Chosen: true}}, value: "x", chosen: true},
		"one was proposed in the term": {answers: "abc", proposed: "bc", value: "bc"},
		"the same, and nobody answers": {proposed: "bc", value: "bc"},
	} {
		t.Run(what, func(t *testing.T) {
			answers, unable := make(map[wasmatrix.ServerID]founding), make(map[wasmatrix.ServerID]bool)
			for i, id := range serverIDs(tc.answers) {
				answers[id] = none
				if f, ok := tc.said[tc.answers[i:i+1]]; ok {
					answers[id] = f
				}
			}
			for _, id := range serverIDs(tc.unable) {
				unable[id] = true
			}
			d := decide(voters, answers, unable, foundersNamed(tc.proposed))
			if !slices.Equal(d.value, foundersNamed(tc.value)) || d.chosen != tc.chosen || d.absent != tc.absent || d.wait != tc.wait {
				t.Errorf("decided %+v", d)
			}
		})
	}
}
