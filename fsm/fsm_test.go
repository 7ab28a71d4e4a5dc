package fsm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/wasmatrix/wasmatrix"
)

func TestViewsAreSharedUntilTheNextCommand(t *testing.T) {
	m := newMachine(t, Options{}).seed("n1")
	one := m.fsm.State()
	if m.fsm.State() != one {
		t.Error("two readers of the same state got two copies")
	}
	m.start("i", "n1", wasmatrix.RestartNever)
	two := m.fsm.State()
	if two == one || one.InstanceCount() != 0 || two.InstanceCount() != 1 || one.Usage("n1").Instances != 0 || one.ModuleUsers(testModule) != 0 {
		t.Error("a view saw what came after it")
	}
}

func TestChanged(t *testing.T) {
	m := newMachine(t, Options{}).seed("n1")
	var snap bytes.Buffer
	if err := m.fsm.Snapshot()(&snap); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(){
		"command":   func() { m.start("i", "n1", wasmatrix.RestartNever) },
		"malformed": func() { m.apply(nil) },
		"restore": func() {
			if err := m.fsm.Restore(&snap); err != nil {
				t.Fatal(err)
			}
		},
	} {
		changed := m.fsm.Changed()
		if again := m.fsm.Changed(); again != changed {
			t.Errorf("%s: two channels for one change", name)
		}
		select {
		case <-changed:
			t.Errorf("%s: closed too early", name)
		default:
		}
		change()
		select {
		case <-changed:
		default:
			t.Errorf("%s: not closed", name)
		}
	}
}

func TestAnswered(t *testing.T) {
	m := newMachine(t, Options{}).seed("n1")
	r := wasmatrix.Request{ID: "r", Body: [16]byte{1}}
	other := wasmatrix.Request{ID: "r", Body: [16]byte{2}}
	item := func(r wasmatrix.Request, ids ...wasmatrix.InstanceID) wasmatrix.StartItem {
		it := wasmatrix.StartItem{Request: r, Spec: testSpec(0)}
		for _, id := range ids {
			it.Placements = append(it.Placements, wasmatrix.Placement{Instance: id, Node: "n1"})
		}
		return it
	}
	if ids, ok, err := m.fsm.State().Answered(r); ok || err != nil || ids != nil {
		t.Errorf("before: %v %v %v", ids, ok, err)
	}
	// Also within one command a repetition has no effect.
	got := m.do(wasmatrix.StartInstances{At: m.now, Items: []wasmatrix.StartItem{
		item(r, "a", "b"), item(r, "c", "d"), item(other, "e"), item(wasmatrix.Request{}, "f"), item(wasmatrix.Request{}, "g"),
	}}).([]wasmatrix.StartResult)
	if got[0].Duplicate || !got[1].Duplicate || !slices.Equal(got[1].Instances, got[0].Instances) {
		t.Errorf("%+v", got)
	}
	wantCode(t, got[2].Err, wasmatrix.CodeConflict)
	if got[3].Err != nil || got[4].Err != nil || m.fsm.State().InstanceCount() != 4 {
		t.Errorf("%+v", got)
	}
	if ids, ok, err := m.fsm.State().Answered(r); !ok || err != nil || !slices.Equal(ids, []wasmatrix.InstanceID{"a", "b"}) {
		t.Errorf("after: %v %v %v", ids, ok, err)
	}
	_, ok, err := m.fsm.State().Answered(other)
	if ok {
		t.Error("another body was answered")
	}
	wantCode(t, err, wasmatrix.CodeConflict)
	if _, ok, err := m.fsm.State().Answered(wasmatrix.Request{}); ok || err != nil {
		t.Error("the zero request was answered")
	}
}

// TestWindowIsEvictedInSteps: an idle time that ends does not stop the peer to
// forget all at once, and the window shrinks even so.
func TestWindowIsEvictedInSteps(t *testing.T) {
	m := newMachine(t, Options{RequestWindow: time.Minute, MaxRequests: 1000}).seed("n1")
	drain := func(n int) {
		m.do(wasmatrix.DrainNode{At: m.now, Request: wasmatrix.Request{ID: wasmatrix.RequestID(fmt.Sprint(n))}, Node: "n1"})
	}
	size := func() int { return m.fsm.State().window.byAge.len() }
	for n := range 1500 {
		drain(n)
	}
	if size() != 1000 {
		t.Fatalf("%d are remembered", size())
	}
	m.tick(time.Minute)
	drain(2000)
	if size() != 1000 {
		t.Fatalf("forgotten at the end of their time: %d are remembered", size())
	}
	m.tick(1)
	for n := 2001; size() > n-2000+1; n++ {
		before := size()
		drain(n)
		if size() >= before || size() < before-2*maxExpire {
			t.Fatalf("from %d to %d in one command", before, size())
		}
		if n > 3000 {
			t.Fatal("the window does not shrink")
		}
	}
	if _, ok, _ := m.fsm.State().Answered(wasmatrix.Request{ID: "2000"}); !ok {
		t.Error("a young request was forgotten")
	}
}

// TestTimeNeverGoesBack: a new leader's clock may be behind.
func TestTimeNeverGoesBack(t *testing.T) {
	m := newMachine(t, Options{}).seed("n1")
	before := m.fsm.State().Now()
	m.tick(-time.Hour)
	m.start("i", "n1", wasmatrix.RestartNever)
	if i := m.instance("i"); i.CreatedAt != before || m.fsm.State().Now() != before {
		t.Errorf("created at %d, it is %d, and was %d", i.CreatedAt, m.fsm.State().Now(), before)
	}
}

// TestTruncateLetsGo of what it cuts off: a record may be kept for long.
func TestTruncateLetsGo(t *testing.T) {
	long := strings.Repeat("é", 1<<10)
	short := truncate(long, 5)
	if short != "éé" || unsafe.StringData(short) == unsafe.StringData(long) {
		t.Errorf("%q, in the memory of the whole: %v", short, unsafe.StringData(short) == unsafe.StringData(long))
	}
}

// TestCrashesShareNothingWithReports: the caller's report stays as it is.
func TestCrashesShareNothingWithReports(t *testing.T) {
	frame := strings.Repeat("f", wasmatrix.MaxCrashFrame+1)
	r := &wasmatrix.Report{Status: wasmatrix.StatusCrashed, Crash: &wasmatrix.Crash{Stack: []string{frame}}}
	m := &tx{State: newState()}
	if c := m.crashOf(&wasmatrix.Instance{}, r); len(c.Stack[0]) != wasmatrix.MaxCrashFrame || r.Crash.Stack[0] != frame {
		t.Errorf("a frame of %d bytes was cut to %d, and in the report to %d", len(frame), len(c.Stack[0]), len(r.Crash.Stack[0]))
	}
}
