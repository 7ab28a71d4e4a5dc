package cluster

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wasmatrix/wasmatrix"
)

// named makes a configuration: a name with "*" is a non-voter.
func named(names ...string) (out []Server) {
	for _, n := range names {
		id := wasmatrix.ServerID(n[:1] + ".00000000")
		out = append(out, Server{ID: id, Addr: "at " + string(id), Voter: len(n) == 1})
	}
	return out
}

func TestNextChange(t *testing.T) {
	// Of those seen, a capital letter is of one that is current, a small one of
	// one that is behind; after "!" they are leaving.
	look := func(s string) map[wasmatrix.ServerID]seen {
		out := make(map[wasmatrix.ServerID]seen)
		leaving := false
		for _, c := range s {
			if c == '!' {
				leaving = true
				continue
			}
			current := c < 'a'
			if current {
				c += 'a' - 'A'
			}
			out[wasmatrix.ServerID(string(c)+".00000000")] = seen{open: true, current: current, leaving: leaving}
		}
		return out
	}
	for what, tc := range map[string]struct {
		want, have []Server
		seen       string
		change     string
		server     string
	}{
		"nothing to do":                           {named("a", "b", "c"), named("a", "b", "c"), "ABC", "", ""},
		"a new server":                            {named("a", "b*"), named("a"), "Ab", changeAdd, "b"},
		"a new one that does not answer":          {named("a", "b*"), named("a"), "A", "", ""},
		"a new voter comes in without a vote":     {named("a", "b"), named("a"), "AB", changeAdd, "b"},
		"a voter":                                 {named("a", "b"), named("a", "b*"), "AB", changeVote, "b"},
		"a voter that is behind":                  {named("a", "b"), named("a", "b*"), "Ab", "", ""},
		"no vote before the control group's":      {named("a", "b*"), named("a", "b*"), "AB", "", ""},
		"a vote stays where it is":                {named("a", "b*"), named("a", "b"), "AB", "", ""},
		"a dead one goes":                         {named("a", "b"), named("a", "b", "c"), "AB", changeRemove, "c"},
		"a dead one goes before another comes":    {named("a", "b", "d"), named("a", "b", "c"), "ABD", changeRemove, "c"},
		"a live one goes":                         {named("a", "b"), named("a", "b", "c"), "ABC", changeRemove, "c"},
		"a live one goes after another has come":  {named("a", "b", "d"), named("a", "b", "c", "d*"), "ABCD", changeVote, "d"},
		"a live one stays while another comes":    {named("a", "b", "d"), named("a", "b", "c", "d*"), "ABCd", "", ""},
		"it waits for no non-voter":               {named("a", "b", "d*"), named("a", "b", "c", "d*"), "ABCd", changeRemove, "c"},
		"one that leaves goes":                    {named("a", "b", "c"), named("a", "b", "c"), "AB!C", changeRemove, "c"},
		"one that leaves does not come back":      {named("a", "b", "c"), named("a", "b"), "AB!C", "", ""},
		"a leader that was removed hands over":    {named("b", "c"), named("a", "b", "c"), "ABC", changeLead, "b"},
		"a leader that leaves hands over":         {named("a", "b", "c"), named("a", "b", "c"), "bC!A", changeLead, "c"},
		"a leader that was removed, alone":        {named("b"), named("a"), "AB", changeAdd, "b"},
		"a leader that was removed gives a vote":  {named("b"), named("a", "b*"), "AB", changeVote, "b"},
		"a leader that was removed removes none":  {named("b"), named("a", "b*", "c"), "Ab", "", ""},
		"a leader that was removed does not wait": {named("b", "d"), named("a", "b", "c"), "ABD", changeLead, "b"},
	} {
		t.Run(what, func(t *testing.T) {
			got := nextChange("a.00000000", tc.want, tc.have, look(tc.seen))
			if got.what != tc.change || nameOf(got.server.ID) != tc.server {
				t.Errorf("change = %s %s, want %s %s", got.what, got.server.ID, tc.change, tc.server)
			}
		})
	}
}

// TestAHostedGroupFollows plays random changes of a control group, and lets a
// hosted group follow: it never depends on a majority that does not answer where
// it did not before, and in the end has the same servers.
func TestAHostedGroupFollows(t *testing.T) {
	all := named("a", "b", "c", "d", "e", "f", "g")
	for range 2000 {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		want, have := named("a", "b", "c"), named("a", "b", "c")
		dead, known := make(map[wasmatrix.ServerID]bool), make(map[wasmatrix.ServerID]seen)
		look := func(behind int) {
			for _, s := range all {
				known[s.ID] = seen{open: !dead[s.ID], current: !dead[s.ID] && r.IntN(100) >= behind}
			}
		}
		able := func(servers []Server) bool {
			voters, live := 0, 0
			for _, s := range servers {
				if s.Voter {
					voters++
					if !dead[s.ID] {
						live++
					}
				}
			}
			return live > voters/2
		}
		self := wasmatrix.ServerID("a.00000000")
		step := func(behind int) bool {
			if dead[self] || !slices.ContainsFunc(have, func(s Server) bool { return s.ID == self && s.Voter }) {
				var voters []Server
				for _, s := range have {
					if s.Voter && !dead[s.ID] {
						voters = append(voters, s)
					}
				}
				self = voters[r.IntN(len(voters))].ID
			}
			look(behind)
			next := nextChange(self, want, have, known)
			after := slices.DeleteFunc(slices.Clone(have), func(s Server) bool { return s.ID == next.server.ID })
			switch next.what {
			case changeNone:
				return false
			case changeLead:
				if next.server.ID == self || dead[next.server.ID] {
					t.Fatalf("seed %d: %s hands over to %s", seed, self, next.server.ID)
				}
				self = next.server.ID
				return true
			case changeAdd, changeVote:
				if _, ok := find(want, next.server.ID); !ok {
					t.Fatalf("seed %d: %s %s, which is not in the control group", seed, next.what, next.server.ID)
				}
				next.server.Voter = next.what == changeVote
				after = append(after, next.server)
			case changeRemove:
				if _, ok := find(want, next.server.ID); ok || next.server.ID == self {
					t.Fatalf("seed %d: %s removes %s", seed, self, next.server.ID)
				}
			}
			if next.what == changeRemove && !able(after) {
				return false // see checkRemoval
			}
			if !able(after) {
				t.Fatalf("seed %d: %s %s makes %v of %v, which is no majority", seed, next.what, next.server.ID, after, have)
			}
			have = after
			return true
		}
		for range 40 {
			s := all[r.IntN(len(all))]
			i := slices.IndexFunc(want, func(o Server) bool { return o.ID == s.ID })
			switch r.IntN(4) {
			case 0: // dies, if both groups bear it
				dead[s.ID] = true
				if !able(want) || !able(have) {
					dead[s.ID] = false
				}
			case 1:
				dead[s.ID] = false
			case 2:
				if i < 0 {
					s.Voter = false
					want = append(want, s)
				} else if !dead[s.ID] {
					want = slices.Clone(want)
					want[i].Voter = true
				}
			case 3:
				if i >= 0 && len(want) > 1 {
					if rest := slices.Delete(slices.Clone(want), i, i+1); able(rest) {
						want = rest
					}
				}
			}
			for r.IntN(3) > 0 && step(30) {
			}
		}
		clear(dead)
		for range 100 {
			if !step(0) {
				break
			}
		}
		// A vote that the control group has taken back by removal and admission stays.
		if len(have) != len(want) || slices.ContainsFunc(want, func(s Server) bool {
			o, ok := find(have, s.ID)
			return !ok || s.Voter && !o.Voter
		}) {
			t.Fatalf("seed %d: it ended as %v, the control group as %v", seed, have, want)
		}
	}
}
