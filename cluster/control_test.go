package cluster

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/gossip"
)

func FuzzReadMessage(f *testing.F) {
	var b bytes.Buffer
	if err := writeMessage(&b, &request{Op: opAdmit, From: "a.00000000", Addr: "127.0.0.1:1", Servers: []wasmatrix.ServerID{"a.00000000"}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, '{'})
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Fuzz(func(t *testing.T, in []byte) {
		var req request
		if err := readMessage(bytes.NewReader(in), &req); err != nil {
			return
		}
		var out bytes.Buffer
		if err := writeMessage(&out, &req); err != nil {
			return // escapes may make it longer than it was
		}
		var back request
		if err := readMessage(&out, &back); err != nil {
			t.Fatal(err)
		}
		if len(req.Servers) == 0 {
			req.Servers = nil // omitted when empty
		}
		if len(req.Founders) == 0 {
			req.Founders = nil
		}
		if !reflect.DeepEqual(req, back) {
			t.Fatalf("%+v came back as %+v", req, back)
		}
	})
}

func TestControlMessagesAreBounded(t *testing.T) {
	if err := writeMessage(&bytes.Buffer{}, &request{Addr: strings.Repeat("a", maxControl)}); err == nil {
		t.Error("a message over the bound was written")
	}
	if err := readMessage(bytes.NewReader([]byte{0, 1, 0, 1}), new(request)); err == nil || err.Error() != "control message too long" {
		t.Errorf("read = %v, want a refusal before anything is read", err)
	}
}

func server(name string, change func(*gossip.Member)) gossip.Member {
	m := gossip.Member{Tags: gossip.Tags{
		Role: gossip.RoleServer, Name: name, Server: wasmatrix.ServerID(name + ".00000000"), Expect: 3,
	}, Status: gossip.StatusAlive}
	if change != nil {
		change(&m)
	}
	return m
}

func TestPlanBootstrap(t *testing.T) {
	a, b, c := server("a", nil), server("b", nil), server("c", nil)
	for what, tc := range map[string]struct {
		members []gossip.Member
		expect  int
		servers string // names, if any
		says    string
		loud    bool
	}{
		"all there":        {[]gossip.Member{c, a, b}, 3, "abc", "", false},
		"more than needed": {[]gossip.Member{c, a, b, server("d", nil)}, 3, "abcd", "", false},
		"one missing":      {[]gossip.Member{a, b}, 3, "", "found 2 of the 3", false},
		"one dead":         {[]gossip.Member{a, b, server("c", func(m *gossip.Member) { m.Status = gossip.StatusDead })}, 3, "", "found 2 of the 3", false},
		"a node":           {[]gossip.Member{a, b, server("c", func(m *gossip.Member) { m.Role = gossip.RoleNode })}, 3, "", "found 2 of the 3", false},
		"one that never bootstraps": {[]gossip.Member{a, b, server("c", func(m *gossip.Member) { m.Expect = 0 })}, 3, "",
			"found 2 of the 3", false},
		"one with a log": {[]gossip.Member{a, b, c, server("d", func(m *gossip.Member) { m.HasState = true })}, 3, "",
			"there is a cluster already: server d", false},
		"a dead one with a log": {[]gossip.Member{a, b, c, server("d", func(m *gossip.Member) { m.HasState = true; m.Status = gossip.StatusDead })}, 3, "",
			"there is a cluster already: server d", false},
		"one with a log that left": {[]gossip.Member{a, b, c, server("d", func(m *gossip.Member) { m.HasState = true; m.Status = gossip.StatusLeft })}, 3, "abc",
			"", false},
		"one of a cluster": {[]gossip.Member{a, b, c, server("d", func(m *gossip.Member) { m.Cluster = "x" })}, 3, "",
			"there is a cluster already: server d", false},
		"different expectations": {[]gossip.Member{a, b, c, server("d", func(m *gossip.Member) { m.Expect = 5 }), server("e", func(m *gossip.Member) { m.Expect = 1 })}, 3, "",
			"here it is 3, but d has 5, e has 1", true},
		"never":      {[]gossip.Member{server("a", func(m *gossip.Member) { m.Expect = 0 })}, 0, "", "bootstrap_expect is 0", false},
		"one, alone": {[]gossip.Member{server("a", func(m *gossip.Member) { m.Expect = 1 })}, 1, "a", "", false},
	} {
		t.Run(what, func(t *testing.T) {
			p := planBootstrap(tc.members, tc.expect)
			names := ""
			for _, m := range p.servers {
				names += m.Name
			}
			if names != tc.servers || (tc.says == "") != (p.wait == "") || !strings.Contains(p.wait, tc.says) || p.loud != tc.loud {
				t.Errorf("plan = %q, %q, loud %t", names, p.wait, p.loud)
			}
		})
	}
}

// TestOverlappingBootstrapsExclude is the safety of making a cluster: whatever
// the order in which proposals that share a server arrive, one at most gets all promises.
func TestOverlappingBootstrapsExclude(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		servers := []wasmatrix.ServerID{"a.0", "b.0", "c.0", "d.0", "e.0"}
		stand := make(map[wasmatrix.ServerID]*standby)
		for _, id := range servers {
			stand[id] = &standby{}
		}
		sets := [][]wasmatrix.ServerID{
			rapid.Permutation(servers).Draw(t, "one")[:3],
			rapid.Permutation(servers).Draw(t, "two")[:3],
			rapid.Permutation(servers).Draw(t, "three")[:3],
		}
		type ask struct{ set, to int }
		var asks []ask
		for i := range sets {
			for j := range 3 {
				asks = append(asks, ask{i, j})
			}
		}
		granted := make([]int, len(sets))
		for _, q := range rapid.Permutation(asks).Draw(t, "order") {
			if stand[sets[q.set][q.to]].promise(sets[q.set][0], testTime) == "" {
				granted[q.set]++
			}
		}
		for i := range sets {
			for j := range i {
				if granted[i] == 3 && granted[j] == 3 && sets[i][0] != sets[j][0] && share(sets[i], sets[j]) {
					t.Fatalf("%v and %v were both promised", sets[i], sets[j])
				}
			}
		}
	})
}

var testTime = time.Unix(1_700_000_000, 0)

func share(a, b []wasmatrix.ServerID) bool {
	return slices.ContainsFunc(a, func(id wasmatrix.ServerID) bool { return slices.Contains(b, id) })
}
