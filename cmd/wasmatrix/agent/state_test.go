package agent

import (
	"bytes"
	"testing"
)

func TestAReplacedStateTells(t *testing.T) {
	m := newMachine()
	var saved bytes.Buffer
	if err := m.State().WriteSnapshot(&saved); err != nil {
		t.Fatal(err)
	}
	restored := m.Restored()
	select {
	case <-restored:
		t.Fatal("it tells of nothing")
	default:
	}
	if err := m.Restore(&saved); err != nil {
		t.Fatal(err)
	}
	select {
	case <-restored:
	default:
		t.Error("nobody was told")
	}
}

func TestTheHashOfAStateIsTakenOnce(t *testing.T) {
	m := newMachine()
	var h hashCache
	s := m.State()
	first, index := h.of(s)
	h.hash[0]++ // would be repaired by taking it again
	if again, at := h.of(s); again == first || at != index {
		t.Error("the hash of one state was taken twice")
	}
	h.state = hashCache{}.state
	if fresh, _ := h.of(s); fresh != first {
		t.Error("the hash of another state was kept")
	}
}
