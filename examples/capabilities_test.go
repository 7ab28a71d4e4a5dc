package examples_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/node/engine"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// languages are those that an example is written in, and its module in each.
func languages(t *testing.T, name string, test func(t *testing.T, wasm []byte)) {
	for language, load := range map[string]func(t *testing.T) []byte{
		"go": func(t *testing.T) []byte { return build(t, ".", "./"+name+"/go", "-buildmode=c-shared") },
		"c":  func(t *testing.T) []byte { return committed(t, name+"/c/"+name+".wasm") },
		"as": func(t *testing.T) []byte { return committed(t, name+"/as/"+name+".wasm") },
	} {
		t.Run(language, func(t *testing.T) { test(t, load(t)) })
	}
}

func committed(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVisits(t *testing.T) {
	languages(t, "visits", func(t *testing.T, wasm []byte) {
		m := loadInto(t, newEngine(t), wasm, wasmatrix.ModuleReactor)
		w := nodetest.NewWorld()
		overtaken := 0
		var answer error
		w.Before = func(_ context.Context, call string) error {
			if strings.HasPrefix(call, "set") && overtaken > 0 {
				overtaken--
				w.Put("visits", "100")
			}
			return answer
		}
		r := begin(t, m, engine.RunConfig{Capabilities: w})
		r.want("count", "", 0, "0")
		r.want("visit", "", 0, "1")
		r.want("visit", "", 0, "2")
		r.want("visit", "another key", 0, "1")
		r.want("count", "", 0, "2")
		overtaken = 2
		r.want("visit", "", 0, "101")
		if w.Value("visits") != "101" || w.Value("another key") != "1" {
			t.Errorf("the values are %q and %q", w.Value("visits"), w.Value("another key"))
		}
		for n := 102; n < 222; n++ {
			r.want("visit", "", 0, strconv.Itoa(n))
		}
		// Errors come through, and who may have counted says so.
		answer = wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "not allowed")
		if status, out := r.invoke("visit", ""); status != 1 || !strings.Contains(out, "not allowed") {
			t.Errorf("denied: %d, %q", status, out)
		}
		answer = wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "out of reach")
		if status, out := r.invoke("visit", ""); status != 2 || !strings.Contains(out, "out of reach") {
			t.Errorf("unavailable: %d, %q", status, out)
		}
		answer = nil
		w.Put("text", "not a count")
		if status, _ := r.invoke("visit", "text"); status != 1 {
			t.Errorf("of a text: %d", status)
		}
		// A second instance goes on where the first is.
		begin(t, m, engine.RunConfig{Capabilities: w}).want("visit", "", 0, "222")
	})
}

func TestRelay(t *testing.T) {
	languages(t, "relay", func(t *testing.T, wasm []byte) {
		m := loadInto(t, newEngine(t), wasm, wasmatrix.ModuleReactor)
		w := nodetest.NewWorld()
		denied := true
		broken := wasmatrix.Errorf(wasmatrix.CodeCommunication, "no such host")
		w.Before = func(_ context.Context, call string) error {
			switch {
			case denied:
				return wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "not yet")
			case call == "response" && len(w.Requests()) > 0 && strings.HasSuffix(w.Requests()[len(w.Requests())-1].URL, "broken"):
				return broken
			}
			return nil
		}
		w.Reply = func(*capability.Request, []byte) (*capability.Response, io.Reader) {
			return &capability.Response{Status: 201}, strings.NewReader(strings.Repeat("x", 100_000))
		}
		r := begin(t, m, engine.RunConfig{Capabilities: w})
		if status, out := r.invoke("listen", ""); status != 1 || !strings.Contains(out, "not yet") {
			t.Errorf("denied: %d, %q", status, out)
		}
		denied = false
		r.want("listen", "", 0, "")
		r.want("listen", "", 0, "")
		out := w.Listen("relay.out")
		send := func(url string) string {
			w.Message("relay.in", capability.Message{Topic: "relay.in", Data: []byte(url)})
			select {
			case m := <-out:
				return string(m.Data)
			case <-time.After(time.Minute):
				t.Fatal("nothing is published")
				return ""
			}
		}
		if got := send("http://host/page"); got != "http://host/page 201 100000" {
			t.Errorf("published %q", got)
		}
		if got := w.Value("relay/http://host/page"); got != "201 100000" {
			t.Errorf("kept %q", got)
		}
		if got := send("http://host/broken"); !strings.HasPrefix(got, "http://host/broken error ") || !strings.Contains(got, "no such host") {
			t.Errorf("published %q", got)
		}
		if w.Open() != 1 {
			t.Errorf("%d are open besides the subscription", w.Open()-1)
		}
		for range 100 {
			send("http://host/again")
		}
		if status, _ := r.invoke("handled", ""); status != 102 {
			t.Errorf("%d were handled", status)
		}
	})
}

// TestCounter: three writers count to the total together, while calls fail before
// or after they had their effect.
func TestCounter(t *testing.T) {
	m := loadInto(t, newEngine(t), build(t, ".", "./counter"), wasmatrix.ModuleCommand)
	w := nodetest.NewWorld()
	lossy := &lossy{World: w}
	var wg sync.WaitGroup
	const n = "50"
	for _, writer := range []string{"a", "b", "c"} {
		wg.Go(func() {
			var out bytes.Buffer
			exit := m.Run(t.Context(), engine.RunConfig{Capabilities: lossy, Args: []string{"counter", "-writer", writer, "-n", n}, Stdout: &out, Stderr: &out})
			if exit.Kind != engine.OK || !strings.HasPrefix(out.String(), writer+" counted to "+n+", all to ") {
				t.Errorf("%+v, %q", exit, out.String())
			}
		})
	}
	wg.Wait()
	if got := w.Value("counter"); got != "a 50\nb 50\nc 50\n" || lossy.lost < 20 {
		t.Errorf("counted %q, %d writes were lost", got, lossy.lost)
	}
}

// lossy loses every fifth write, before or after it is made.
type lossy struct {
	*nodetest.World

	mu        sync.Mutex
	set, lost int
}

func (l *lossy) KVSet(ctx context.Context, id wasmatrix.CapabilityID, key string, value []byte, o capability.SetOptions) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set++
	if l.set%5 != 0 {
		return l.World.KVSet(ctx, id, key, value, o)
	}
	l.lost++
	if l.lost%2 == 0 {
		_, _ = l.World.KVSet(ctx, id, key, value, o)
	}
	return 0, wasmatrix.Errorf(wasmatrix.CodeTimeout, "no answer").With(wasmatrix.DetailOutcome, wasmatrix.OutcomeUnknown)
}

// TestPuller builds a guest with all of net/http.
func TestPuller(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("compiling net/http takes half a minute, and many under the race detector")
	}
	m := loadInto(t, newEngine(t), build(t, ".", "./puller"), wasmatrix.ModuleCommand)
	w := nodetest.NewWorld()
	w.Reply = func(r *capability.Request, _ []byte) (*capability.Response, io.Reader) {
		if strings.HasSuffix(r.URL, "missing") {
			return &capability.Response{Status: 404}, strings.NewReader("no")
		}
		return &capability.Response{Status: 200, Header: []capability.Field{{Name: "Content-Length", Value: "200000"}}}, strings.NewReader(strings.Repeat("x", 200_000))
	}
	subscribed := make(chan struct{})
	w.Before = func(_ context.Context, call string) error {
		if call == "receive" {
			select {
			case <-subscribed:
			default:
				close(subscribed)
			}
		}
		return nil
	}
	go func() {
		<-subscribed
		w.Message("jobs", capability.Message{Topic: "jobs", Data: []byte("http://host/a")})
		w.Message("jobs", capability.Message{Topic: "jobs", Data: []byte("http://host/missing")})
		w.Message("jobs", capability.Message{Topic: "jobs", Data: []byte("://")})
	}()
	results := w.Listen("results")
	var out bytes.Buffer
	exit := m.Run(t.Context(), engine.RunConfig{Capabilities: w, Args: []string{"puller", "-in", "jobs", "-out", "results", "-n", "3"}, Stdout: &out, Stderr: &out})
	want := "waiting\nhttp://host/a 200 200000\nhttp://host/missing 404 2\n:// error "
	if exit.Kind != engine.OK || !strings.HasPrefix(out.String(), want) || w.Value("pulled/http://host/missing") != "404 2" {
		t.Errorf("%+v, %q", exit, out.String())
	}
	if m := <-results; string(m.Data) != "http://host/a 200 200000" {
		t.Errorf("published %q", m.Data)
	}
	if w.Open() != 0 {
		t.Errorf("%d are open", w.Open())
	}
	out.Reset()
	exit = m.Run(t.Context(), engine.RunConfig{Capabilities: w, Args: []string{"puller", "-idle", "10ms"}, Stdout: &out, Stderr: &out})
	if exit.Kind != engine.OK || out.String() != "waiting\n" {
		t.Errorf("%+v, %q", exit, out.String())
	}
}
