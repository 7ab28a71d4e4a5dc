package link

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/gen/api"
)

var dial = (&net.Dialer{}).DialContext

// serve answers requests by f, which has a link each.
func serve(t *testing.T, f func(*Link)) (addr string) {
	t.Helper()
	var work sync.WaitGroup
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !Asked(r) {
			w.WriteHeader(http.StatusUpgradeRequired)
			return
		}
		work.Add(1)
		defer work.Done()
		l, err := Accept(w)
		if err != nil {
			t.Error(err)
			return
		}
		f(l)
	}))
	t.Cleanup(func() {
		srv.Close()
		work.Wait()
	})
	return srv.Listener.Addr().String()
}

// connect returns a link to a server.
func connect(t *testing.T, addr string) *Link {
	t.Helper()
	l := New(func(Claim) {})
	t.Cleanup(l.Close)
	if err := l.Connect(t.Context(), dial, addr, "/"); err != nil {
		t.Fatal(err)
	}
	return l
}

func message(n int, size int) *api.CarryRequest {
	return &api.CarryRequest{Call: uint64(n), Part: &api.CarryRequest_Publish{Publish: &api.Publish{Data: make([]byte, size)}}}
}

// echo sends back what it receives, and then ends with why.
func echo(t *testing.T, why error) func(*Link) {
	return func(l *Link) {
		for {
			m := new(api.CarryRequest)
			if err := l.Receive(m); err != nil {
				if !errors.Is(err, io.EOF) {
					t.Errorf("the echo ended with %v", err)
				}
				break
			}
			if _, _, err := l.Send(t.Context(), m, Claim{}); err != nil {
				t.Error(err)
			}
		}
		l.End(why)
	}
}

// TestMessagesPass, of all sizes and by many senders at a time, whole and in each
// sender's order.
func TestMessagesPass(t *testing.T) {
	l := connect(t, serve(t, echo(t, nil)))
	const senders, each = 32, 50
	sizes := []int{0, 10, 1000, 70_000, 1 << 20}
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for n := range each {
				if _, ok, err := l.Send(t.Context(), message(s*each+n+1, sizes[n*n%len(sizes)]/(1+s)), Claim{}); !ok || err != nil {
					t.Errorf("%t, %v", ok, err)
				}
			}
		})
	}
	var last [senders]uint64
	for range senders * each {
		m := new(api.CarryRequest)
		if err := l.Receive(m); err != nil {
			t.Fatal(err)
		}
		s := (m.Call - 1) / each
		if n := m.Call - s*each; n != last[s]+1 {
			t.Fatalf("message %d of sender %d came after %d", n, s, last[s])
		}
		last[s]++
	}
	wg.Wait()
}

// TestEndsAreTold, with why, after everything that was sent before.
func TestEndsAreTold(t *testing.T) {
	for name, why := range map[string]error{"well": nil, "for a reason": wasmatrix.Errorf(wasmatrix.CodeConflict, "a reason").With("k", "v")} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, func(l *Link) {
				for n := range 100 {
					if _, _, err := l.Send(t.Context(), message(n+1, 100_000), Claim{}); err != nil {
						t.Error(err)
					}
				}
				l.End(why)
			})
			l := connect(t, addr)
			l.SendNow(message(1, 10)) // nobody reads it, which must not take back what was sent
			for n := range 100 {
				m := new(api.CarryRequest)
				if err := l.Receive(m); err != nil || m.Call != uint64(n+1) {
					t.Fatalf("message %d: %v, %v", n+1, m.Call, err)
				}
			}
			err := l.Receive(new(api.CarryRequest))
			if why == nil && !errors.Is(err, io.EOF) {
				t.Errorf("it ended with %v", err)
			}
			if e := wasmatrix.AsError(err); why != nil && (e.Code != wasmatrix.CodeConflict || e.Message != "a reason" || e.Details["k"] != "v") {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	l := New(func(Claim) {})
	defer l.Close()
	refuse := httptest.NewServer(http.NotFoundHandler())
	defer refuse.Close()
	if err := l.Connect(t.Context(), dial, refuse.Listener.Addr().String(), "/"); err == nil {
		t.Error("what was refused is connected")
	}
	// What does not answer at all is given up with the context.
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.Connect(ctx, dial, silent.Addr().String(), "/"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("connecting ended with %v", err)
	}
	if at, ok, err := l.Send(t.Context(), message(1, 1), Claim{}); !ok || err != nil || l.Sent(at) {
		t.Errorf("a message of before a connection: %t, %v, sent %t", ok, err, l.Sent(at))
	}
	for name, tt := range map[string]struct {
		m    *api.CarryRequest
		code wasmatrix.Code
	}{
		"too large": {message(1, 3<<20), wasmatrix.CodeResourceExhausted},
		"not text":  {&api.CarryRequest{Part: &api.CarryRequest_KvGet{KvGet: &api.KVGet{Key: "\xff"}}}, wasmatrix.CodeInvalidRequest},
	} {
		if _, _, err := l.Send(t.Context(), tt.m, Claim{}); wasmatrix.CodeOf(err) != tt.code || wasmatrix.AsError(err).Details[wasmatrix.DetailOutcome] != wasmatrix.OutcomeNone {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWhoTakesNothingHoldsUpHisOwn: sending is bounded by the sender's time, and ends
// when the link does.
func TestWhoTakesNothingHoldsUpHisOwn(t *testing.T) {
	done := make(chan struct{})
	addr := serve(t, func(l *Link) {
		<-done
		l.Close()
	})
	l := connect(t, addr)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var err error
	for n := 1; err == nil && n < 1000; n++ {
		_, _, err = l.Send(ctx, message(n, 1<<20), Claim{})
	}
	if wasmatrix.CodeOf(err) != wasmatrix.CodeTimeout {
		t.Fatalf("sending to who takes nothing: %v", err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if _, ok, err := l.Send(t.Context(), message(1, 1), Claim{}); ok || err != nil {
			t.Errorf("sent over what was closed: %t, %v", ok, err)
		}
	})
	time.Sleep(10 * time.Millisecond) // it may wait by now, or find the link closed
	l.Close()
	waiting.Wait()
	if err := l.Receive(new(api.CarryRequest)); !errors.Is(err, errClosed) {
		t.Errorf("receiving ended with %v", err)
	}
	close(done)
}

// TestClaimsAreAskedWhenTheirTurnComes: what waits behind a connection that takes
// nothing is asked for when it takes something.
func TestClaimsAreAskedWhenTheirTurnComes(t *testing.T) {
	read := make(chan struct{})
	received := make(chan uint64, 100)
	addr := serve(t, func(l *Link) {
		<-read
		for {
			m := new(api.CarryRequest)
			if l.Receive(m) != nil {
				l.Close()
				close(received)
				return
			}
			received <- m.Call
		}
	})
	var dropped atomic.Uint64
	l := New(func(c Claim) { dropped.Store(c.Call) })
	defer l.Close()
	if err := l.Connect(t.Context(), dial, addr, "/"); err != nil {
		t.Fatal(err)
	}
	var alive atomic.Bool
	alive.Store(true)
	last := uint64(0)
	for full := false; !full; { // until more than a frame waits
		last++
		if _, _, err := l.Send(t.Context(), message(int(last), 1<<20), Claim{}); err != nil {
			t.Fatal(err)
		}
		l.out.mu.Lock()
		full = len(l.out.buf)-l.out.read > 2<<20
		l.out.mu.Unlock()
	}
	claimed := last + 1
	if _, _, err := l.Send(t.Context(), message(int(claimed), 10), Claim{Alive: alive.Load, Call: claimed}); err != nil {
		t.Fatal(err)
	}
	alive.Store(false)
	if _, _, err := l.Send(t.Context(), message(int(claimed)+1, 10), Claim{}); err != nil {
		t.Fatal(err)
	}
	close(read)
	for n := range received {
		if n == claimed {
			t.Error("a message was sent that might not be any more")
		}
		if n == claimed+1 {
			l.Close()
		}
	}
	if dropped.Load() != claimed {
		t.Errorf("dropped was %d, not %d", dropped.Load(), claimed)
	}
}

// TestInterruptLeavesSending: the server that ends takes nothing any more, and
// answers what it has.
func TestInterruptLeavesSending(t *testing.T) {
	addr := serve(t, func(l *Link) {
		l.Interrupt()
		if err := l.Receive(new(api.CarryRequest)); err == nil {
			t.Error("it received after that")
		}
		l.SendNow(message(7, 10))
		l.End(nil)
	})
	l := connect(t, addr)
	m := new(api.CarryRequest)
	if err := l.Receive(m); err != nil || m.Call != 7 {
		t.Errorf("%v, %v", m, err)
	}
	if err := l.Receive(m); !errors.Is(err, io.EOF) {
		t.Errorf("it ended with %v", err)
	}
}

// TestInterruptedMessagesAreWhole: reading goes on where it was, wherever that is.
func TestInterruptedMessagesAreWhole(t *testing.T) {
	sizes := []int{0, 3, 1000, 60_000, 70_000, 200_000}
	var frames []byte
	for n, size := range sizes {
		m := message(n+1, size)
		rand.Read(m.GetPublish().Data)
		var err error
		if frames, err = appendFrame(frames, flagMessage, m); err != nil {
			t.Fatal(err)
		}
	}
	here, there := net.Pipe()
	l := New(func(Claim) {})
	l.start(here, here)
	l.attach()
	defer l.Close()
	l.Interrupt()
	go func() {
		for rest := frames; len(rest) > 0; {
			n := min(len(rest), 1+len(rest)/7)
			_, _ = there.Write(rest[:n])
			rest = rest[n:]
		}
		there.Close()
	}()
	var got []byte
	interrupted := 0
	for {
		m := new(api.CarryRequest)
		err := l.Receive(m)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if interrupted++; interrupted%2 == 0 {
				l.Resume()
				time.AfterFunc(time.Duration(interrupted%50)*time.Microsecond, l.Interrupt)
			} else {
				l.Resume()
			}
			continue
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("it ended with %v", err)
			}
			break
		}
		if got, err = appendFrame(got, flagMessage, m); err != nil {
			t.Fatal(err)
		}
		if interrupted%2 == 1 {
			l.Interrupt()
		}
	}
	if !bytes.Equal(got, frames) {
		t.Errorf("%d bytes came, or others; %d were sent", len(got), len(frames))
	}
	if interrupted < 2 {
		t.Errorf("it was interrupted %d times", interrupted)
	}
}

// TestSilenceIsNoticed: a side that does not answer is given up, and one that has
// nothing to say is not. Time is virtual.
func TestSilenceIsNoticed(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers bool
	}{{"paused", false}, {"idle", true}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				l := New(func(Claim) {})
				l.start(here, here)
				l.attach()
				far := &Link{patience: silencesAccepted}
				far.out = newOutbox(func(Claim) {}, far.fail)
				if tt.answers {
					far.start(there, there)
					far.attach()
					go func() { _ = far.Receive(new(api.CarryRequest)) }()
				} else {
					go func() { _, _ = io.Copy(io.Discard, there) }() // as a kernel does for a process that is paused
				}
				began := time.Now()
				ended := make(chan error, 1)
				go func() { ended <- l.Receive(new(api.CarryRequest)) }()
				select {
				case err := <-ended:
					if took := time.Since(began); tt.answers || took > silences*beat || wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
						t.Errorf("it ended after %s with %v", took, err)
					}
				case <-time.After(time.Hour):
					if !tt.answers {
						t.Error("it goes on")
					}
				}
				l.Close()
				far.Close()
				there.Close()
			})
		})
	}
}

// TestTheOtherSideNoticesToo: who is not asked any more gives up later.
func TestTheOtherSideNoticesToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		l := &Link{patience: silencesAccepted}
		l.out = newOutbox(func(Claim) {}, l.fail)
		l.start(here, here)
		l.attach()
		defer l.Close()
		began := time.Now()
		err := l.Receive(new(api.CarryRequest))
		if took := time.Since(began); took != silencesAccepted*beat || wasmatrix.CodeOf(err) != wasmatrix.CodeCommunication {
			t.Errorf("it ended after %s with %v", took, err)
		}
	})
}

// FuzzFrames reads anything as frames: it ends with an error, and what it takes for
// messages is within the bounds.
func FuzzFrames(f *testing.F) {
	b, err := appendFrame(nil, flagMessage, message(1, 10))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{flagPing, 0, 0, 0, 0, flagEnd, 0, 0, 0, 1, 0xff})
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		here, there := net.Pipe()
		l := &Link{patience: silencesAccepted}
		l.out = newOutbox(func(Claim) {}, l.fail)
		l.start(here, here)
		l.attach()
		defer l.Close()
		go func() {
			_, _ = there.Write(b)
			there.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, there) }()
		for n := 0; ; n++ {
			m := new(api.CarryRequest)
			if err := l.Receive(m); err != nil {
				if fmt.Sprint(err) == "" {
					t.Error("an error that says nothing")
				}
				return
			}
			if n > len(b)/headSize {
				t.Fatal("there are more messages than heads")
			}
		}
	})
}
