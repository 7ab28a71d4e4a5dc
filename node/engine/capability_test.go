package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// TestHostFunctionsAreThoseOfTheContract, in the order of the guest's script.
func TestHostFunctionsAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, f := range hostFunctions {
		if _, ok := abi.Functions[f.name]; !ok || seen[f.name] {
			t.Errorf("%s is not in the contract, or twice", f.name)
		}
		seen[f.name] = true
	}
	if len(seen) != len(abi.Functions) {
		t.Errorf("%d of %d functions", len(seen), len(abi.Functions))
	}
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{})
	r.want("", []int32{abi.Version, 160}, r.do(abi.VersionFunc), r.do(abi.InputLen))
}

func TestAnImportOfAnotherTypeIsRefused(t *testing.T) {
	t.Parallel()
	exit := load(t, newEngine(t, Config{}), testModule(t, "abi_signature")).Run(t.Context(), RunConfig{})
	if exit.Kind != Start || !strings.Contains(exit.Message, "kv_get") || !strings.Contains(exit.Message, "signature mismatch") {
		t.Errorf("exit %+v", exit)
	}
}

const (
	buf = 0x200000 // where results go
	rev = 0x70     // where revisions go
)

func revision(n uint64) string { return string(binary.LittleEndian.AppendUint64(nil, n)) }

func TestKV(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	peek := func(at, n int) step { return r.do(abi.OutputWrite, at, n) }

	// A key that is not there has revision 0, which is what compare-and-swap expects of it.
	r.put(rev, []byte("12345678"))
	r.want(revision(0), []int32{-int32(abi.ErrNotFound), 0}, r.do(abi.KVGet, "a", "k", buf, 100, rev), peek(rev, 8))
	r.want(revision(1), []int32{0, 0}, r.do(abi.KVCAS, "a", "k", 0, "one", 0, rev), peek(rev, 8))
	r.put(rev, []byte("12345678"))
	r.want(revision(1), []int32{-int32(abi.ErrConflict), 0}, r.do(abi.KVCAS, "a", "k", 0, "two", 0, rev), peek(rev, 8))
	r.want(revision(2), []int32{0, 0}, r.do(abi.KVCAS, "a", "k", 1, "two", 2500, rev), peek(rev, 8))
	r.want("two"+revision(2), []int32{3, 0, 0}, r.do(abi.KVGet, "a", "k", buf, 100, rev), peek(buf, 3), peek(rev, 8))
	r.want(revision(3), []int32{0, 0}, r.do(abi.KVSet, "b", "k", "", 0, rev), peek(rev, 8))
	r.want("", []int32{0}, r.do(abi.KVGet, "a", "k", buf, 100, 0)) // without a revision
	r.want("", []int32{1, 0}, r.do(abi.KVDelete, "a", "k"), r.do(abi.KVDelete, "a", "k"))
	want := []string{"get a", "set a 0s", "set a 0s", "set a 2.5s", "get a", "set b 0s", "get a", "delete a", "delete a"}
	if got := w.Called(); !slices.Equal(got, want) {
		t.Errorf("called %q, want %q", got, want)
	}
}

func TestKeysThatAreMalformed(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	no := -int32(abi.ErrInvalid)
	for _, key := range []string{"", "\xff", "cut \xe2\x82", strings.Repeat("k", abi.MaxKey+1)} {
		r.want("", []int32{no, no, no, no}, r.do(abi.KVGet, "kv", key, buf, 0, 0), r.do(abi.KVSet, "kv", key, "", 0, 0),
			r.do(abi.KVCAS, "kv", key, 0, "", 0, 0), r.do(abi.KVDelete, "kv", key))
		if key != "" {
			r.want("", []int32{no, no}, r.do(abi.KVList, "kv", key, "", 0, buf, 0), r.do(abi.KVList, "kv", "", key, 0, buf, 0))
		}
	}
	for _, id := range []string{"", "a b", "\xff", ".a", strings.Repeat("a", abi.MaxCapabilityID+1)} {
		r.want("", []int32{no, no}, r.do(abi.KVGet, id, "k", buf, 0, 0), r.do(abi.HTTPOpen, id, "GET", "http://host/", "", 0))
	}
	r.want("", []int32{no, no}, r.do(abi.KVSet, "kv", "k", "", -1, 0), r.do(abi.KVCAS, "kv", "k", 0, "", 1<<62, 0))
	if got := w.Called(); len(got) > 0 {
		t.Errorf("called %q", got)
	}
	// The longest, of any characters.
	r.want("", []int32{0}, r.do(abi.KVSet, strings.Repeat("a", abi.MaxCapabilityID), "\x00\n"+strings.Repeat("水", abi.MaxKey/3-1), "", 0, 0))
}

// page reads what kv_list gives.
func page(b []byte) (keys []string, more bool) {
	n := binary.LittleEndian.Uint32(b)
	more = binary.LittleEndian.Uint32(b[4:]) == 1
	b = b[8:]
	for range n {
		size := binary.LittleEndian.Uint32(b)
		keys = append(keys, string(b[4:4+size]))
		b = b[4+size:]
	}
	if len(b) > 0 {
		panic("more than the keys")
	}
	return keys, more
}

func TestKVList(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	for i := range 5 {
		w.Put(fmt.Sprintf("user/%d", i), "")
	}
	w.Put("other", "")
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	list := func(prefix, after string, limit int) ([]string, bool) {
		told, all := r.script(r.do(abi.KVList, "kv", prefix, after, limit, buf, 1000), r.do(abi.OutputWrite, buf, 1000))
		return page(all[:told[0]])
	}
	for _, tt := range []struct {
		prefix, after string
		limit         int
		keys          string
		more          bool
	}{
		{"", "", 0, "other user/0 user/1 user/2 user/3 user/4", false},
		{"user/", "", 2, "user/0 user/1", true},
		{"user/", "user/1", 3, "user/2 user/3 user/4", false},
		{"nobody", "", 1 << 31, "", false},
	} {
		if keys, more := list(tt.prefix, tt.after, tt.limit); strings.Join(keys, " ") != tt.keys || more != tt.more {
			t.Errorf("%+v: %q, %t", tt, keys, more)
		}
	}
	for i, q := range w.Queries() {
		if want := []int{abi.MaxListLimit, 2, 3, abi.MaxListLimit}[i]; q.Limit != want {
			t.Errorf("limit %d was handed on as %d", i, q.Limit)
		}
	}
}

// TestAPageIsBounded: keys that would make it too long come with the next one.
func TestAPageIsBounded(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	const n = 3000
	for i := range n {
		w.Put(fmt.Sprintf("%04d", i)+strings.Repeat("k", abi.MaxKey-4), "")
	}
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	after, pages, seen := "", 0, 0
	for {
		told, all := r.script(r.do(abi.KVList, "kv", "", after, 0, buf, 0), r.do(abi.ResultRead, 0, 0x100000, 0x180000), r.do(abi.OutputWrite, 0x100000, 0x180000))
		if told[0] > abi.MaxValue || told[1] != told[0] {
			t.Fatalf("a page of %d bytes, of which %d were read", told[0], told[1])
		}
		keys, more := page(all[:told[0]])
		pages, seen = pages+1, seen+len(keys)
		if !more {
			break
		}
		after = keys[len(keys)-1]
	}
	if seen != n || pages != 3 {
		t.Errorf("%d keys in %d pages", seen, pages)
	}
}

// TestResultsThatDoNotFit are given in part, and then the rest on demand.
func TestResultsThatDoNotFit(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	big := bytes.Repeat([]byte("0123456789abcdef"), abi.MaxValue/16)
	w.Put("big", string(big))
	w.Put("huge", string(big)+"x")
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	r.want("0123\x00"+string(big[4:9])+string(big[abi.MaxValue-3:]), []int32{abi.MaxValue, 0, 5, 0, 3, 0, 0, 0},
		r.do(abi.KVGet, "kv", "big", buf, 4, 0), r.do(abi.OutputWrite, buf, 5),
		r.do(abi.ResultRead, 4, buf, 5), r.do(abi.OutputWrite, buf, 5),
		r.do(abi.ResultRead, abi.MaxValue-3, buf, 1000), r.do(abi.OutputWrite, buf, 3),
		r.do(abi.ResultRead, abi.MaxValue, buf, 1000), r.do(abi.ResultRead, 1<<32-1, buf, 1000))
	// It is the last one of the same invocation.
	r.want("", []int32{0}, r.do(abi.ResultRead, 0, buf, 1000))
	// Beyond the memory nothing is copied, and the failure is not a result.
	r.want("", []int32{abi.MaxValue, -int32(abi.ErrBounds), 1000}, r.do(abi.KVGet, "kv", "big", buf, 0, 0),
		r.do(abi.ResultRead, 0, 40<<16-999, 1000), r.do(abi.ResultRead, 0, 40<<16-1000, 1000))
	r.want("", []int32{-int32(abi.ErrTooLarge)}, r.do(abi.KVGet, "kv", "huge", buf, 0, 0))
}

// TestErrorsAsGuestsGetThem, with what there is to say of each.
func TestErrorsAsGuestsGetThem(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	var answer error
	w.Before = func(context.Context, string) error { return answer }
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	told := func(err error) (int32, string) {
		answer = err
		told, text := r.script(r.do(abi.KVGet, "kv", "k", buf, 0, 0), r.do(abi.ErrorRead, buf, 600), r.do(abi.OutputWrite, buf, 600))
		return told[0], string(text[:told[1]])
	}
	want := map[wasmatrix.Code]abi.Error{
		wasmatrix.CodePermissionDenied: abi.ErrDenied, wasmatrix.CodeCapabilityNotFound: abi.ErrDenied, wasmatrix.CodeConflict: abi.ErrConflict,
		wasmatrix.CodeInvalidRequest: abi.ErrInvalid, wasmatrix.CodeValidation: abi.ErrInvalid, wasmatrix.CodeProviderUnavailable: abi.ErrUnavailable,
		wasmatrix.CodeNoLeader: abi.ErrUnavailable, wasmatrix.CodeNotLeader: abi.ErrUnavailable, wasmatrix.CodeResourceExhausted: abi.ErrLimit,
		wasmatrix.CodeTimeout: abi.ErrTimeout, wasmatrix.CodeCommunication: abi.ErrFailed,
	}
	for _, code := range wasmatrix.Codes {
		number, text := told(wasmatrix.Errorf(code, "said of it"))
		says := "said of it"
		expect, ok := want[code]
		if !ok {
			expect, says = abi.ErrFailed, "the provider failed"
		}
		if number != -int32(expect) || text != says {
			t.Errorf("%s: told %d, %q", code, number, text)
		}
	}
	if number, text := told(errors.New("the password is secret")); number != -int32(abi.ErrFailed) || strings.Contains(text, "secret") {
		t.Errorf("told %d, %q", number, text)
	}
	if number, _ := told(fmt.Errorf("within: %w", context.DeadlineExceeded)); number != -int32(abi.ErrTimeout) {
		t.Errorf("told %d", number)
	}
	if _, text := told(wasmatrix.Errorf(wasmatrix.CodeTimeout, "%s\xff", strings.Repeat("long ", 1000))); len(text) > 512 || len(text) < 500 {
		t.Errorf("a text of %d bytes", len(text))
	}
	// Of an earlier invocation, or before any failure, there is nothing to say.
	r.want("", []int32{0}, r.do(abi.ErrorRead, buf, 600))
	r.want("the ", []int32{-int32(abi.ErrHandle), int32(len(errHandle.text)), 0}, r.do(abi.HTTPSend, 5), func() step { s := r.do(abi.ErrorRead, buf+100, 0); return s }(), func() step {
		r.put(buf, []byte("the "))
		return r.do(abi.OutputWrite, buf, 4)
	}())
}

// TestWithoutCapabilitiesAllIsDenied.
func TestWithoutCapabilitiesAllIsDenied(t *testing.T) {
	t.Parallel()
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{})
	no := -int32(abi.ErrDenied)
	r.want("", []int32{no, no, no, no, no, no, no, no, no},
		r.do(abi.KVGet, "kv", "k", buf, 0, 0), r.do(abi.KVSet, "kv", "k", "v", 0, 0), r.do(abi.KVCAS, "kv", "k", 0, "v", 0, 0),
		r.do(abi.KVDelete, "kv", "k"), r.do(abi.KVList, "kv", "", "", 0, buf, 0), r.do(abi.HTTPOpen, "web", "GET", "http://a/", "", 0),
		r.do(abi.MsgPublish, "msg", "a", "b"), r.do(abi.MsgSubscribe, "msg", "a", "", 0), r.do(abi.MsgSubscribe, "msg", "a", "", 1))
}

// TestWhatIsSentIsACopy, that a provider may keep.
func TestWhatIsSentIsACopy(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	r.put(0x5000, []byte("precious"))
	r.want("", []int32{0, 0, 0}, r.do(abi.KVSet, "kv", "k", 0x5000, 8, 0, 0), r.do(abi.KVCAS, "kv", "k", 1, 0x5000, 8, 0, 0), r.do(abi.MsgPublish, "msg", "t", 0x5000, 8))
	r.put(0x5000, []byte("overrun!"))
	for _, b := range w.Sent() {
		if string(b) != "precious" {
			t.Errorf("it has become %q", b)
		}
	}
}

// TestWhoWaitsForAProviderHasNoCore.
func TestWhoWaitsForAProviderHasNoCore(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{Cores: 1})
	w := nodetest.NewWorld()
	waiting, goOn := make(chan struct{}), make(chan struct{})
	w.Before = func(context.Context, string) error {
		close(waiting)
		<-goOn
		return nil
	}
	r := runModule(t, e, testModule(t, "abi"), RunConfig{Capabilities: w})
	done := r.send(wasmatrix.Invocation{Function: "script", Bytes: true, Data: encodeSteps([]step{r.do(abi.KVGet, "kv", "k", buf, 0, 0)})})
	<-waiting
	other := runReactor(t, e, "callee", RunConfig{})
	if _, err := other.call("work", "1000"); err != nil {
		t.Error(err)
	}
	close(goOn)
	if a := <-done; a.err != nil {
		t.Error(a.err)
	}
}

// TestBeginningsMayCall: the start section and the initializer.
func TestBeginningsMayCall(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi_begin"), RunConfig{Capabilities: w})
	if res, err := r.call("said"); err != nil || res.Results[0].Text != strconv.Itoa(len(errCapabilityID.text)) || res.Results[1].Text != "0" {
		t.Errorf("said %v, %v", texts(res), err)
	}
	if res, err := r.call("told"); err != nil || strings.Join(texts(res), " ") != "i32 0 i32 0 i32 1" {
		t.Errorf("told %v, %v", texts(res), err)
	}
	if w.Value("start") != "kv" || w.Value("init") != "kv" {
		t.Error("the values are not there")
	}
	w.Message("topic", capability.Message{Topic: "topic", Data: []byte("hello")})
	eventually(t, "the message", func() bool {
		res, err := r.call("messages")
		return err == nil && res.Results[0].Text == "22" // 12, the topic, and the data
	})
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}
