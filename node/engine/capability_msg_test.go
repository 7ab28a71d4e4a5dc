package engine

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

func layout(handle, dropped uint32, topic, data string) string {
	b := binary.LittleEndian.AppendUint32(nil, handle)
	b = binary.LittleEndian.AppendUint32(b, dropped)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(topic)))
	return string(b) + topic + data
}

func TestMessagesArePulled(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	out := w.Listen("out")
	r.want("", []int32{0, 1}, r.do(abi.MsgPublish, "msg", "out", "data"), r.do(abi.MsgSubscribe, "msg", "in.*", "workers", 0))
	if m := <-out; m.Topic != "out" || string(m.Data) != "data" {
		t.Errorf("published %+v", m)
	}
	if got, want := w.Called(), []string{"publish msg", "subscribe msg workers"}; !slices.Equal(got, want) {
		t.Errorf("called %q, want %q", got, want)
	}
	// In a later invocation than the one that subscribed.
	w.Message("in.*", capability.Message{Topic: "in.a", Data: []byte("one"), Dropped: 3})
	w.Message("in.*", capability.Message{Topic: "in.b", Data: []byte("two"), Dropped: math.MaxUint64})
	w.Message("in.*", capability.Message{Topic: "in.c", Data: make([]byte, abi.MaxMessage+1), Dropped: 2})
	w.Message("in.*", capability.Message{Topic: "in.d"})
	late := -int32(abi.ErrTimeout)
	r.want(layout(1, 3, "in.a", "one")+layout(1, math.MaxUint32, "in.b", "two")+layout(1, 3, "in.d", ""), []int32{19, 0, 19, 19, 0, 16, 0, late, late},
		r.do(abi.MsgReceive, 1, 0, buf, 100), r.do(abi.OutputWrite, buf, 19),
		r.do(abi.MsgReceive, 1, -1, buf, 0), r.do(abi.ResultRead, 0, buf, 100), r.do(abi.OutputWrite, buf, 19),
		r.do(abi.MsgReceive, 1, 60_000, buf, 100), r.do(abi.OutputWrite, buf, 16), // what is too long is a lost one
		r.do(abi.MsgReceive, 1, 0, buf, 100), r.do(abi.MsgReceive, 1, 20, buf, 100))
	w.Message("in.*", capability.Message{Topic: "over"})
	r.want("", []int32{-int32(abi.ErrUnavailable), 0, -int32(abi.ErrHandle)}, r.do(abi.MsgReceive, 1, -1, buf, 1), r.do(abi.MsgUnsubscribe, 1), r.do(abi.MsgUnsubscribe, 1))
	if w.Open() != 0 {
		t.Errorf("%d are open", w.Open())
	}
}

// TestAMessageThatIsThereIsFound: also where the time was over before anybody could look,
// as on a machine that is busy.
func TestAMessageThatIsThereIsFound(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	w.Before = func(ctx context.Context, name string) error {
		if name == "receive" {
			<-ctx.Done()
		}
		return nil
	}
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	r.want("", []int32{1}, r.do(abi.MsgSubscribe, "msg", "in", "", 0))
	for range 20 {
		w.Message("in", capability.Message{Topic: "in", Data: []byte("here")})
		r.want("", []int32{18, -int32(abi.ErrTimeout)}, r.do(abi.MsgReceive, 1, 0, buf, 100), r.do(abi.MsgReceive, 1, 1, buf, 100))
	}
}

func TestTopicsThatAreMalformed(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	no := -int32(abi.ErrInvalid)
	r.want("", []int32{no, no, no, no, no}, r.do(abi.MsgPublish, "msg", "a.*", ""), r.do(abi.MsgPublish, "msg", "", ""), r.do(abi.MsgPublish, "msg", "a..b", ""),
		r.do(abi.MsgPublish, "msg", "a\xff", ""), r.do(abi.MsgPublish, "msg", strings.Repeat("a", 256), ""))
	r.want("", []int32{no, no, no, no, no}, r.do(abi.MsgSubscribe, "msg", ">.a", "", 0), r.do(abi.MsgSubscribe, "msg", "a", "a group", 0),
		r.do(abi.MsgSubscribe, "msg", "a", strings.Repeat("g", 65), 0), r.do(abi.MsgSubscribe, "msg", "a", "", 2), r.do(abi.MsgSubscribe, "", "a", "", 0))
	if got := w.Called(); len(got) > 0 {
		t.Errorf("called %q", got)
	}
}

// pushedTo subscribes by a push, and returns what the guest publishes of each message.
func pushedTo(t *testing.T, w *nodetest.World, cfg RunConfig) (*reactor, <-chan capability.Message) {
	t.Helper()
	cfg.Capabilities = w
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), cfg)
	out := w.Listen("pushed")
	r.want("", []int32{1}, r.do(abi.MsgSubscribe, "msg", "in", "", 1))
	return r, out
}

func TestMessagesArePushed(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r, out := pushedTo(t, w, RunConfig{})
	const n = 100
	for i := range n {
		w.Message("in", capability.Message{Topic: "in", Data: []byte{byte(i), 0}, Dropped: uint64(i)})
	}
	w.Message("in", capability.Message{Topic: "in", Data: make([]byte, abi.MaxMessage+1), Dropped: 1})
	w.Message("in", capability.Message{Topic: "in", Data: []byte("last")})
	for i := range n {
		if m := <-out; string(m.Data) != layout(1, uint32(i), "in", string([]byte{byte(i), 0})) {
			t.Errorf("message %d is %q", i, m.Data)
		}
	}
	if m := <-out; string(m.Data) != layout(1, 2, "in", "last") {
		t.Errorf("the last message is %q", m.Data)
	}
	// Calls go on beside it, and have nothing of it.
	r.want("", []int32{abi.Version}, r.do(abi.VersionFunc))
	r.end(errTest)
	if w.Open() != 0 {
		t.Errorf("%d are open", w.Open())
	}
}

// TestMessagesAndCallsTakeTurns: neither keeps the other waiting for long.
func TestMessagesAndCallsTakeTurns(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r, out := pushedTo(t, w, RunConfig{})
	stop := make(chan struct{})
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		for {
			select {
			case <-stop:
				return
			default:
				w.Message("in", capability.Message{Topic: "in", Data: []byte("\x00")})
				<-out
			}
		}
	}()
	for range 200 {
		r.want("", []int32{abi.Version}, r.do(abi.VersionFunc))
	}
	close(stop)
	<-flooded
}

// TestUnsubscribingEndsThePush, also from within it.
func TestUnsubscribingEndsThePush(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r, out := pushedTo(t, w, RunConfig{})
	r.put(0x60, []byte{1, 0, 0, 0})
	w.Message("in", capability.Message{Topic: "in", Data: []byte("the last one.")})
	for range 10 {
		w.Message("in", capability.Message{Topic: "in", Data: []byte("too late")})
	}
	<-out
	eventually(t, "the end of the subscription", func() bool { return w.Open() == 0 })
	r.want("", []int32{-int32(abi.ErrHandle)}, r.do(abi.MsgUnsubscribe, 1))
	// The next one works as the first did.
	r.want("", []int32{2}, r.do(abi.MsgSubscribe, "msg", "in2", "", 1))
	w.Message("in2", capability.Message{Topic: "in2"})
	if m := <-out; string(m.Data) != layout(2, 0, "in2", "") {
		t.Errorf("got %q", m.Data)
	}
}

// TestAPushThatIsOverLeavesTheGuestRunning.
func TestAPushThatIsOverLeavesTheGuestRunning(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r, _ := pushedTo(t, w, RunConfig{})
	w.Message("in", capability.Message{Topic: "over"})
	eventually(t, "the end of the subscription", func() bool { return w.Open() == 0 })
	r.want("", []int32{0}, r.do(abi.MsgUnsubscribe, 1))
}

// TestAMessageMayEndTheRun, by a trap or by taking too long, as a call does.
func TestAMessageMayEndTheRun(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r, _ := pushedTo(t, w, RunConfig{})
	w.Message("in", capability.Message{Topic: "in", Data: []byte("now!")})
	if exit := r.wait(); exit.Kind != Trap || exit.Message != "unreachable" || w.Open() != 0 {
		t.Errorf("exit %+v, %d open", exit, w.Open())
	}
}

// TestAMessageHasItsTime: it is given to the guest as a call with a deadline is.
func TestAMessageHasItsTime(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{Cores: 1, MessageTime: 50 * time.Millisecond})
	w := nodetest.NewWorld()
	r := runModule(t, e, testModule(t, "abi"), RunConfig{Capabilities: w})
	r.want("", []int32{1}, r.do(abi.MsgSubscribe, "msg", "in", "", 1))
	out := w.Listen("pushed")

	// While there is no core for it, it is lost, which the next one tells.
	hog := e.cores.Join(1000)
	defer hog.Leave()
	if err := hog.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Message("in", capability.Message{Topic: "in", Data: []byte("lost"), Dropped: 4})
	waiting := func(n int) func() bool { return func() bool { return e.cores.Stats().Waiting == n } }
	eventually(t, "that it waits for a core", waiting(1))
	eventually(t, "that it does not any more", waiting(0))
	hog.Release()
	w.Message("in", capability.Message{Topic: "in", Data: []byte("got")})
	if m := <-out; string(m.Data) != layout(1, 5, "in", "got") {
		t.Errorf("got %q", m.Data)
	}
	w.Message("in", capability.Message{Topic: "in", Data: []byte("spin?")})
	if exit := r.wait(); exit.Kind != Deadline || exit.Message != errCallDeadline.Error() {
		t.Errorf("exit %+v", exit)
	}
}

// TestWhoCannotTakeMessages is told so when it asks for them.
func TestWhoCannotTakeMessages(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	w := nodetest.NewWorld()
	exit := load(t, e, testModule(t, "abi_command")).Run(t.Context(), RunConfig{Capabilities: w})
	if exit.Code == nil || *exit.Code != -int32(abi.ErrInvalid) {
		t.Errorf("a command: exit %+v", exit)
	}
	r := runModule(t, e, testModule(t, "abi_deaf"), RunConfig{Capabilities: w})
	if res, err := r.call("subscribe"); err != nil || res.Results[0].Text != "-7" {
		t.Errorf("without a function of its type: %v, %v", res.Results, err)
	}
	if got := w.Called(); len(got) > 0 {
		t.Errorf("called %q", got)
	}
}

// TestNothingIsHeldBetweenInvocations by who has nothing open, and no result by
// who has.
func TestNothingIsHeldBetweenInvocations(t *testing.T) {
	w := nodetest.NewWorld()
	e := newEngine(t, Config{})
	m := load(t, e, testModule(t, "abi"))
	cfg := RunConfig{Capabilities: w}
	x := m.newExecution(t.Context(), &cfg)
	defer x.end(&Exit{})
	x.give(nil, []byte("v"))
	x.hold().failure = "text"
	x.rest()
	if x.held != nil {
		t.Errorf("held %+v", x.held)
	}
	n := x.keep(&subscription{Subscription: must(w.Subscribe(t.Context(), "msg", "t", "")), cancel: func() {}})
	x.give(nil, []byte("v"))
	x.rest()
	if x.held == nil || x.held.result != nil || x.held.open[n] == nil {
		t.Errorf("held %+v", x.held)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
