package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/node/nodetest"
)

// pairs are the parameters of each function that names memory, in the words of
// shape.
var pairs = map[string]string{
	abi.ErrorRead: "b",
	abi.KVGet:     "ckbr", abi.KVSet: "ckvtr", abi.KVCAS: "cknvtr", abi.KVDelete: "ck", abi.KVList: "cppnb",
	abi.HTTPOpen: "cmuHt", abi.HTTPWrite: "hv", abi.HTTPHeader: "hb", abi.HTTPRead: "hb",
	abi.MsgPublish: "cTv", abi.MsgSubscribe: "cTgn", abi.MsgReceive: "stb",
}

// shape is a kind of parameter.
type shape struct {
	good        string // what it can be
	least, most uint64 // bytes that it may have
	tooLong     abi.Error
}

var shapes = map[rune]shape{
	'c': {"kv", 1, abi.MaxCapabilityID, abi.ErrInvalid},
	'k': {"key", 1, abi.MaxKey, abi.ErrInvalid},
	'p': {"", 0, abi.MaxKey, abi.ErrInvalid},
	'v': {"value", 0, abi.MaxValue, abi.ErrTooLarge},
	'm': {"GET", 1, abi.MaxMethod, abi.ErrInvalid},
	'u': {"http://host/", 0, abi.MaxURL, abi.ErrTooLarge},
	'H': {"A: b\n", 0, abi.MaxHeader, abi.ErrTooLarge},
	'T': {"topic", 1, abi.MaxTopic, abi.ErrInvalid},
	'g': {"", 0, abi.MaxGroup, abi.ErrInvalid},
	'b': {strings.Repeat(" ", 100), 0, 1 << 32, 0},
}

const memorySize = 40 << 16

// TestNoFunctionReachesBeyondTheMemory: of every address and length of every
// function, those that are not within the guest's memory and the bounds of the
// contract are refused, and nothing is called.
func TestNoFunctionReachesBeyondTheMemory(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	const first, each = 0x10000, 0x100
	place := map[rune]int{}
	var texts []byte
	for i, c := range "ckpvmuHTgb" {
		place[c] = first + i*each
		texts = append(texts, make([]byte, i*each-len(texts))...)
		texts = append(texts, shapes[c].good...)
	}
	r.want("", []int32{1, 2, 200, 3}, r.do(abi.HTTPOpen, "web", "GET", "http://host/", "", 0), r.do(abi.HTTPOpen, "web", "GET", "http://host/", "", 0),
		r.do(abi.HTTPSend, 2), r.do(abi.MsgSubscribe, "msg", "topic", "", 0))
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range pairs {
			if !yield(name) {
				return
			}
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.SampledFrom(names).Draw(rt, "function")
		kinds := pairs[name]
		var named []int // kinds that name memory
		for i, c := range kinds {
			if _, ok := shapes[c]; ok || c == 'r' {
				named = append(named, i)
			}
		}
		odd := rapid.SampledFrom(named).Draw(rt, "parameter")
		var args []any
		var ptr, n uint64
		for i, c := range kinds {
			switch {
			case i == odd && c == 'r':
				n = 8
				ptr = rapid.SampledFrom([]uint64{1, memorySize - 8, memorySize - 7, memorySize, 1<<32 - 8, 1<<32 - 1}).Draw(rt, "address")
				args = append(args, int(ptr))
			case i == odd:
				s := shapes[c]
				n = rapid.OneOf(rapid.SampledFrom([]uint64{0, 1, s.most, s.most + 1, memorySize, 1 << 31, 1<<32 - 1}), rapid.Uint64Range(0, memorySize)).Draw(rt, "length") & (1<<32 - 1)
				ptr = rapid.OneOf(rapid.SampledFrom([]uint64{0, memorySize - n, memorySize - n + 1, memorySize, memorySize + 1, 1 << 31, 1<<32 - 1, 1<<32 - n}),
					rapid.Uint64Range(0, 1<<32-1)).Draw(rt, "address") & (1<<32 - 1)
				args = append(args, int(ptr), int(n))
			case c == 'h' && name == abi.HTTPWrite:
				args = append(args, 1)
			case c == 'h':
				args = append(args, 2)
			case c == 's':
				args = append(args, 3)
			case c == 'r':
				args = append(args, rev)
			case c == 't' || c == 'n':
				args = append(args, 0)
			default:
				args = append(args, place[c], len(shapes[c].good))
			}
		}
		r.put(first, texts) // of which a buffer may have taken the place
		before := len(w.Called())
		told, _ := r.script(r.do(name, args...))
		reached := len(w.Called()) > before
		got, within := told[0], ptr+n <= memorySize
		s := shapes[rune(kinds[odd])]
		long := kinds[odd] != 'r' && (n > s.most || n < s.least)
		switch {
		case long && n > s.most && got != -int32(s.tooLong):
			rt.Errorf("%s%v: told %d of what is too long", name, args, got)
		case long && got != -int32(abi.ErrInvalid) && got != -int32(abi.ErrBounds) && got != -int32(s.tooLong):
			rt.Errorf("%s%v: told %d of what is too short", name, args, got)
		case !long && !within && got != -int32(abi.ErrBounds):
			rt.Errorf("%s%v: told %d of what is beyond the memory", name, args, got)
		case !long && within && (got == -int32(abi.ErrBounds) || got == -int32(abi.ErrTooLarge)):
			rt.Errorf("%s%v: told %d of what is within", name, args, got)
		}
		if (long || !within) && reached {
			rt.Errorf("%s%v called the provider", name, args)
		}
		if got >= 0 && strings.HasPrefix(name, "msg_sub") {
			r.want("", []int32{0}, r.do(abi.MsgUnsubscribe, int(got)))
		} else if got >= 0 && name == abi.HTTPOpen {
			r.want("", []int32{0}, r.do(abi.HTTPClose, int(got)))
		}
	})
}

// TestNoMemoryToNameIsBeyondAllOfIt. A module without a memory has nothing that
// it could name, not even no bytes at the beginning.
func TestNoMemoryToNameIsBeyondAllOfIt(t *testing.T) {
	t.Parallel()
	a := &args{p: make([]uint64, 9)}
	if a.buffer(); !errors.Is(a.err, errBounds) {
		t.Errorf("error %v", a.err)
	}
}

// TestTheMemoryStaysWhereItIsDuringACall: a guest cannot grow it meanwhile, since
// it has one thread and that is in the call; so what a provider writes to is what
// the guest reads.
func TestTheMemoryStaysWhereItIsDuringACall(t *testing.T) {
	t.Parallel()
	w := nodetest.NewWorld()
	r := runModule(t, newEngine(t, Config{}), testModule(t, "abi"), RunConfig{Capabilities: w})
	data := strings.Repeat("0123456789", abi.MaxPiece/10)
	r.put(0x10000, []byte(data))
	told, got := r.script(r.do(abi.HTTPOpen, "web", "POST", "http://host/", "", 0), r.do(abi.HTTPWrite, 1, 0x10000, len(data)), r.do(abi.HTTPSend, 1),
		r.do(abi.HTTPRead, 1, 0x140000, 0x140000), r.do(abi.OutputWrite, 0x140000, len(data)))
	if told[3] != int32(len(data)) || string(got) != data {
		t.Errorf("told %v, and %d bytes", told, len(got))
	}
}

// FuzzABI has a guest make any calls with any arguments: none may be a failure of
// the engine, and none may have the host allocate without bound.
func FuzzABI(f *testing.F) {
	record := func(name string, args ...uint64) []byte { return encodeSteps([]step{{name, args}}) }
	f.Add(record(abi.KVSet, 0x50, 2, 0x58, 3, 0x1000, 64, 0, 0x70))
	f.Add(slices.Concat(record(abi.KVCAS, 0x50, 2, 0x58, 3, 0, 0, 1<<20, 1, 0x70), record(abi.KVGet, 0x50, 2, 0x58, 3, 0, 0, 0), record(abi.ResultRead, 5, 0x1000, 1<<20)))
	f.Add(slices.Concat(record(abi.MsgSubscribe, 0x40, 3, 0x58, 3, 0, 0, 1), record(abi.MsgPublish, 0x40, 3, 0x58, 3, 0x48, 6), record(abi.MsgUnsubscribe, 1)))
	f.Add(slices.Concat(record(abi.HTTPOpen, 0x50, 2, 0x58, 3, 0x58, 3, 0, 0, 0), record(abi.HTTPWrite, 1, 0, 1<<20), record(abi.HTTPSend, 1), record(abi.HTTPRead, 1, 0x1000, 1<<20)))
	f.Add(record(abi.KVList, 0x50, 2, 0, 0, 0, 0, 1<<32-1, 1<<32-1, 1<<32-1))
	e := newEngine(f, Config{MessageTime: time.Second})
	wasm := testModule(f, "abi")
	m := load(f, e, wasm)
	f.Fuzz(func(t *testing.T, in []byte) {
		const most = 64
		var steps []byte
		for b := range slices.Chunk(in, 80) {
			if len(b) < 80 || len(steps) == 80*most {
				break
			}
			b = slices.Clone(b)
			n := binary.LittleEndian.Uint32(b) % uint32(len(hostFunctions))
			if hostFunctions[n].name == abi.MsgReceive {
				binary.LittleEndian.PutUint64(b[16:], 0) // or it may wait for ever, as it should
			}
			binary.LittleEndian.PutUint32(b, n)
			steps = append(steps, b...)
		}
		if len(steps) == 0 {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		calls := make(chan *Call, 1)
		done := make(chan error, 1)
		calls <- &Call{
			Invocation: wasmatrix.Invocation{Function: "script", Data: steps, Bytes: true}, Deadline: time.Now().Add(time.Minute),
			Begin: func() bool { return true }, Done: func(_ wasmatrix.InvocationResult, err error) { done <- err },
		}
		w := nodetest.NewWorld()
		answered := make(chan error, 1)
		ctx, cancel := contextUntil(answered, t)
		go func() {
			err := <-done
			if slices.ContainsFunc(w.Called(), func(call string) bool { return strings.HasPrefix(call, "subscribe") }) {
				time.Sleep(time.Millisecond) // for what is pushed
			}
			answered <- err
			done <- err
		}()
		exit := m.Run(ctx, RunConfig{Capabilities: w, Calls: calls})
		cancel()
		runtime.ReadMemStats(&after)
		if exit.Kind == Host || exit.Kind == Start {
			t.Errorf("exit %+v", exit)
		}
		// A step copies a value at most once, appends it to an output that doubles or has it echoed.
		if n := after.TotalAlloc - before.TotalAlloc; n > most*(16<<20) {
			t.Errorf("%d bytes were allocated", n)
		}
		if err := <-done; err != nil && exit.Kind == Cancelled { // it is answered, however it ended
			t.Errorf("told %v", err)
		}
	})
}

// BenchmarkKVGet is what a call of the host costs from a guest that does nothing
// else, with a provider that answers at once.
func BenchmarkKVGet(b *testing.B) {
	for _, size := range []int{8, 4096} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			m := load(b, newEngine(b, Config{}), testModule(b, "abi"))
			calls, done := make(chan *Call, 1), make(chan wasmatrix.InvocationResult, 1)
			calls <- &Call{
				Invocation: wasmatrix.Invocation{Function: "gets", Args: []string{fmt.Sprint(b.N)}}, Deadline: time.Now().Add(time.Hour),
				Begin: func() bool { b.ResetTimer(); return true },
				Done:  func(r wasmatrix.InvocationResult, _ error) { b.StopTimer(); done <- r },
			}
			ctx, cancel := contextUntil(done, b)
			defer cancel()
			m.Run(ctx, RunConfig{Capabilities: still{value: make([]byte, size)}, Calls: calls})
		})
	}
}
