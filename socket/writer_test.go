package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// pair returns the two ends of a connection over loopback.
func pair(t *testing.T) (here, there net.Conn) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if here, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if there, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		here.Close()
		there.Close()
	})
	return here, there
}

// TestWriteAsksBeforeEachSystemCall: when the answer changes while the socket is
// full, nothing more leaves.
func TestWriteAsksBeforeEachSystemCall(t *testing.T) {
	here, there := pair(t)
	refused := errors.New("refused")
	var lapsed atomic.Bool
	var asked atomic.Int64
	came := make(chan int64)
	go func() {
		for before := int64(0); asked.Load() == 0 || asked.Load() != before; time.Sleep(20 * time.Millisecond) { // until the writer waits
			before = asked.Load()
		}
		lapsed.Store(true)
		n, err := io.Copy(io.Discard, there) // makes room
		if err != nil {
			t.Error(err)
		}
		came <- n
	}()
	sent, err := NewWriter(here).Write(make([]byte, 64<<20), func() error { // more than both sockets hold
		asked.Add(1)
		if lapsed.Load() {
			return refused
		}
		return nil
	})
	if !errors.Is(err, refused) || sent == 0 || sent == 64<<20 {
		t.Errorf("sent %d, %v", sent, err)
	}
	here.Close()
	if n := <-came; n != int64(sent) {
		t.Errorf("%d bytes came, %d were sent", n, sent)
	}
}

func TestSome(t *testing.T) {
	here, there := pair(t)
	w := NewWriter(here)
	p := bytes.Repeat([]byte("wasmatrix"), 100_000)
	sent := 0
	for {
		n, err := w.Some(p, false)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break // full, and did not wait
		}
		sent += n
	}
	room := make(chan struct{})
	go func() {
		defer close(room)
		if n, err := w.Some(p, true); n != 0 || err != nil {
			t.Errorf("it returned %d, %v: what waited is to ask first", n, err)
		}
	}()
	select {
	case <-room:
		t.Fatal("there is room in a socket that was full")
	case <-time.After(50 * time.Millisecond): // it could have returned
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(there, int64(sent))); n != int64(sent) || err != nil {
		t.Fatal(n, err)
	}
	<-room
	if n, err := w.Some(p, true); n == 0 || err != nil {
		t.Errorf("with room: %d, %v", n, err)
	}
	if err := here.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var err error
	for err == nil {
		_, err = w.Some(p, true)
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("the deadline ended it with %v", err)
	}
	here.Close()
	if _, err := w.Some(p, false); err == nil {
		t.Error("wrote to what is closed")
	}
}

// TestWhatIsNoSocket is written as it is.
func TestWhatIsNoSocket(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		_, _ = io.Copy(io.Discard, there)
		there.Close()
	}()
	w := NewWriter(here)
	if n, err := w.Some([]byte("abc"), false); n != 0 || err != nil {
		t.Errorf("without waiting: %d, %v", n, err)
	}
	if n, err := w.Some([]byte("abc"), true); n != 3 || err != nil {
		t.Errorf("with waiting: %d, %v", n, err)
	}
	asked := 0
	if n, err := w.Write([]byte("abc"), func() error { asked++; return nil }); n != 3 || err != nil || asked != 1 {
		t.Errorf("%d, %v, asked %d times", n, err, asked)
	}
	refused := errors.New("refused")
	if n, err := w.Write([]byte("abc"), func() error { return refused }); n != 0 || !errors.Is(err, refused) {
		t.Errorf("%d, %v", n, err)
	}
}
