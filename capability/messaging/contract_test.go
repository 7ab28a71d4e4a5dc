package messaging_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/capability/messaging"
)

// backend is what the contract is held to: clients by config, each connected with
// any server of it.
type backend struct {
	name   string
	client func(testing.TB, wasmatrix.MessagingConfig) *messaging.Client
}

// contract runs a test against every backend.
func contract(t *testing.T, test func(t *testing.T, b *backend)) {
	t.Helper()
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("embedded=%d", n), func(t *testing.T) {
			cl := newCluster(t, n)
			next := 0
			test(t, &backend{t.Name(), func(tb testing.TB, cfg wasmatrix.MessagingConfig) *messaging.Client {
				// One server after the other is made the first that answers.
				addrs := cl.addrs()
				first := addrs[next%n]
				next++
				c := newClient(tb, messaging.ClientConfig{Config: cfg, Servers: preferring(first, addrs)})
				return c
			}})
		})
	}
	t.Run("external", func(t *testing.T) {
		url := external(t)
		test(t, &backend{t.Name(), func(tb testing.TB, cfg wasmatrix.MessagingConfig) *messaging.Client {
			cfg.URL = url
			return newClient(tb, messaging.ClientConfig{Config: cfg})
		}})
	})
}

// preferring lists first alone until a client has asked for the targets of its first
// attempt, and all afterwards.
func preferring(first string, all []string) func() []string {
	var asked atomic.Bool
	return func() []string {
		if asked.CompareAndSwap(false, true) {
			return []string{first}
		}
		return all
	}
}

func TestP10_MessagingDelivers(t *testing.T) {
	contract(t, func(t *testing.T, b *backend) {
		cfg := config(t)
		from, to := b.client(t, cfg), b.client(t, cfg)
		// What Subscribe has returned for comes, published at another server.
		for i := range 50 {
			topic := fmt.Sprintf("orders.%d", i)
			s := subscribe(t, to, topic, "")
			publish(t, from, topic, topic)
			expect(t, s, topic, topic)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		// In order, and whatever the bytes.
		s := subscribe(t, to, "bytes", "")
		large := bytes.Repeat([]byte("\r\nMSG bytes 1 5\r\n\x00\xff"), 40_000)
		for i, data := range [][]byte{nil, {0}, []byte("\r\n"), large, {1}} {
			if err := from.Publish(ctx(t), anyone, "bytes", data); err != nil {
				t.Fatal(err)
			}
			if m := receive(t, s); !bytes.Equal(m.Data, data) {
				t.Fatalf("message %d: %d bytes came of %d", i, len(m.Data), len(data))
			}
		}
		// To all who have subscribed, the publisher too.
		own := subscribe(t, from, "all.*", "")
		others := []capability.Subscription{subscribe(t, to, "all.>", ""), subscribe(t, to, "all.of", ""), own}
		publish(t, from, "all.of", "us")
		for _, s := range others {
			expect(t, s, "all.of", "us")
		}
	})
}

// TestP19_MessagingIsolation compares what comes with what NATS's rules of topics say:
// each subscription gets all that it stands for, in order, and nothing else.
func TestP19_MessagingIsolation(t *testing.T) {
	contract(t, func(t *testing.T, b *backend) {
		clients := []*messaging.Client{b.client(t, config(t)), b.client(t, config(t)), b.client(t, config(t))}
		run := 0
		rapid.Check(t, func(t *rapid.T) {
			run++
			root := fmt.Sprintf("r%d", run)
			token := rapid.SampledFrom([]string{"a", "b", "c"})
			pattern := rapid.Custom(func(t *rapid.T) string {
				tokens := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "*"}), 0, 3).Draw(t, "tokens")
				if len(tokens) == 0 || rapid.Bool().Draw(t, "rest") {
					tokens = append(tokens, ">")
				}
				return root + "." + strings.Join(tokens, ".")
			})
			patterns := rapid.SliceOfN(pattern, 1, 6).Draw(t, "patterns")
			subs := make([]capability.Subscription, len(patterns))
			for i, p := range patterns {
				s, err := clients[i%len(clients)].Subscribe(context.Background(), anyone, p, "")
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				subs[i] = s
			}
			topics := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
				return root + "." + strings.Join(rapid.SliceOfN(token, 1, 4).Draw(t, "topic"), ".")
			}), 1, 10).Draw(t, "topics")
			// The last is for all patterns: nothing comes after it.
			end := root + ".end"
			for i, topic := range topics {
				if err := clients[0].Publish(context.Background(), anyone, topic, fmt.Append(nil, i)); err != nil {
					t.Fatal(err)
				}
			}
			for i, s := range subs {
				mark, err := clients[i%len(clients)].Subscribe(context.Background(), anyone, end, "")
				if err != nil {
					t.Fatal(err)
				}
				// From the publisher all comes in order, also to different subscriptions of one
				// client: when the mark is there, all before it is.
				if err := clients[0].Publish(context.Background(), anyone, end, nil); err != nil {
					t.Fatal(err)
				}
				if _, err := mark.Receive(context.Background()); err != nil {
					t.Fatal(err)
				}
				mark.Close()
				var got []string
				for {
					m, err := s.Receive(past)
					if err != nil {
						break
					}
					if m.Topic != end {
						got = append(got, m.Topic+"="+string(m.Data))
					}
				}
				var want []string
				for n, topic := range topics {
					if stands(patterns[i], topic) {
						want = append(want, fmt.Sprintf("%s=%d", topic, n))
					}
				}
				if !slices.Equal(got, want) {
					t.Fatalf("%s got %v, want %v", patterns[i], got, want)
				}
			}
		})
	})
}

// stands reports whether a pattern stands for a topic, written apart from the code
// that is tested.
func stands(pattern, topic string) bool {
	p, t := strings.Split(pattern, "."), strings.Split(topic, ".")
	for i := range p {
		switch {
		case i >= len(t):
			return false
		case p[i] == ">":
			return true
		case p[i] != "*" && p[i] != t[i]:
			return false
		}
	}
	return len(p) == len(t)
}

// past is a context that has ended: with it Receive returns what is there.
var past = func() context.Context {
	c, cancel := context.WithCancel(context.Background())
	cancel()
	return c
}()

func TestP10_MessagingGroups(t *testing.T) {
	contract(t, func(t *testing.T, b *backend) {
		const messages = 600
		publisher := b.client(t, config(t))
		var mu sync.Mutex
		got := map[string]map[string]int{} // group, message: how often
		for _, group := range []string{"g1", "g2"} {
			got[group] = map[string]int{}
			for range 4 {
				s := subscribe(t, b.client(t, config(t)), "work.*", group)
				go func() {
					for {
						m, err := s.Receive(context.Background())
						if err != nil {
							return
						}
						mu.Lock()
						got[group][string(m.Data)]++
						mu.Unlock()
					}
				}()
			}
		}
		alone := subscribe(t, publisher, "work.>", "")
		for i := range messages {
			publish(t, publisher, "work.x", fmt.Sprint(i))
		}
		for i := range messages {
			expect(t, alone, "work.x", fmt.Sprint(i))
		}
		eventually(t, "all messages", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(got["g1"]) == messages && len(got["g2"]) == messages
		})
		// Any that was delivered twice would be there by now: those are sent together.
		publish(t, publisher, "work.x", "last")
		expect(t, alone, "work.x", "last")
		mu.Lock()
		defer mu.Unlock()
		for group, m := range got {
			for data, n := range m {
				if n != 1 {
					t.Errorf("group %s got message %s %d times", group, data, n)
				}
			}
		}
	})
}

func TestMessagingUnsubscribes(t *testing.T) {
	contract(t, func(t *testing.T, b *backend) {
		c := b.client(t, config(t))
		s, rest := subscribe(t, c, "news", ""), subscribe(t, c, "news", "")
		waiting := make(chan error, 1)
		go func() {
			_, err := s.Receive(context.Background())
			waiting <- err
		}()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		wantCode(t, <-waiting, wasmatrix.CodeProviderUnavailable)
		publish(t, c, "news", "1")
		expect(t, rest, "news", "1")
		_, err := s.Receive(ctx(t))
		wantCode(t, err, wasmatrix.CodeProviderUnavailable)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		// Of thousands nothing stays.
		var subs []capability.Subscription
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 250 {
					s, err := c.Subscribe(ctx(t), anyone, "many.>", "")
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					subs = append(subs, s)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		publish(t, c, "many.x", "x")
		for _, s := range subs {
			expect(t, s, "many.x", "x")
			s.Close()
		}
		if n := messaging.Held(c); n != 1 {
			t.Errorf("%d subscriptions are held, want 1", n)
		}
	})
}

func TestMessagingRefuses(t *testing.T) {
	contract(t, func(t *testing.T, b *backend) {
		c := b.client(t, config(t, "max_message", "1KiB"))
		for _, topic := range []string{"", "a..b", ".a", "a b", "a.*", ">", "a\r\nPUB b 0", strings.Repeat("a", 256), "$SYS.x", "_INBOX.x", "$WASMATRIX.SYNC"} {
			wantCode(t, c.Publish(ctx(t), anyone, topic, nil), wasmatrix.CodeInvalidRequest)
		}
		for _, topic := range []string{"", "a..b", "a.>.b", "a b", "a*", "$SYS.>", "_INBOX.>", "$WASMATRIX.*"} {
			_, err := c.Subscribe(ctx(t), anyone, topic, "")
			wantCode(t, err, wasmatrix.CodeInvalidRequest)
		}
		_, err := c.Subscribe(ctx(t), anyone, "a", "b c")
		wantCode(t, err, wasmatrix.CodeInvalidRequest)
		if f := wasmatrix.AsError(err).Details[wasmatrix.DetailField]; f != "group" {
			t.Errorf("the field at fault is %q", f)
		}
		s := subscribe(t, c, "size", "")
		wantCode(t, c.Publish(ctx(t), anyone, "size", make([]byte, 1025)), wasmatrix.CodeResourceExhausted)
		publish(t, c, "size", strings.Repeat("x", 1024))
		if m := receive(t, s); len(m.Data) != 1024 || m.Dropped != 0 {
			t.Errorf("%d bytes after %d dropped", len(m.Data), m.Dropped)
		}
		// The largest that there is goes through.
		big := b.client(t, config(t))
		publish(t, big, "size.max", strings.Repeat("x", messaging.MaxMessage))
		wantCode(t, big.Publish(ctx(t), anyone, "size.max", make([]byte, messaging.MaxMessage+1)), wasmatrix.CodeResourceExhausted)
		// Reserved topics are not seen from outside, whatever goes on in them.
		all := subscribe(t, big, ">", "")
		subscribe(t, c, "some", "") // asks all servers, which answer
		publish(t, c, "end", "")
		expect(t, all, "end", "")
	})
}

func TestMessagingContexts(t *testing.T) {
	contract(t, func(t *testing.T, b *backend) {
		c := b.client(t, config(t))
		s := subscribe(t, c, "quiet", "")
		short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		if _, err := s.Receive(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Receive: %v", err)
		}
		publish(t, c, "quiet", "x")
		eventually(t, "the message", func() bool {
			m, err := s.Receive(past)
			return err == nil && string(m.Data) == "x"
		})
		// A client that is closed says so.
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := s.Receive(ctx(t))
		wantCode(t, err, wasmatrix.CodeProviderUnavailable)
		wantCode(t, c.Publish(ctx(t), anyone, "x", nil), wasmatrix.CodeProviderUnavailable)
		_, err = c.Subscribe(ctx(t), anyone, "x", "")
		wantCode(t, err, wasmatrix.CodeProviderUnavailable)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
