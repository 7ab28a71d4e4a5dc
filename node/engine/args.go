package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/tetratelabs/wazero/api"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
)

// args reads the parameters of a host function in their order. The first that is
// at fault sets err, and what is read after it is of no use. Slices that it gives
// are the guest's memory itself, which stays where it is and as it is until the
// function returns, and no longer. Nothing is copied beyond names.
type args struct {
	mod api.Module
	mem api.Memory // nil where the module has none
	p   []uint64   // what is left to be read
	err error
}

func (a *args) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

func (a *args) invalid(format string, v ...any) {
	if a.err == nil {
		a.err = &refusal{abi.ErrInvalid, fmt.Sprintf(format, v...)}
	}
}

func (a *args) u64() uint64 {
	v := a.p[0]
	a.p = a.p[1:]
	return v
}

func (a *args) u32() uint32 { return uint32(a.u64()) }

// at is the memory at an address.
func (a *args) at(ptr, n uint32) []byte {
	if a.mem != nil {
		if b, ok := a.mem.Read(ptr, n); ok {
			return b
		}
	}
	a.fail(errBounds)
	return nil
}

// bytes reads an address and a length of at most most.
func (a *args) bytes(most int, tooLong error) []byte {
	ptr, n := a.u32(), a.u32()
	if uint64(n) > uint64(most) {
		a.fail(tooLong)
		return nil
	}
	return a.at(ptr, n)
}

// buffer reads an address and the length of what is to be filled.
func (a *args) buffer() []byte { return a.bytes(math.MaxUint32, nil) }

// text reads UTF-8 of least to most bytes.
func (a *args) text(what string, least, most int) string {
	ptr, n := a.u32(), a.u32()
	if uint64(n) < uint64(least) || uint64(n) > uint64(most) {
		a.invalid("%s has %d bytes, and not %d to %d", what, n, least, most)
	}
	if a.err != nil {
		return ""
	}
	b := a.at(ptr, n)
	if !utf8.Valid(b) {
		a.invalid("%s is not valid UTF-8", what)
	}
	if a.err != nil {
		return ""
	}
	return string(b)
}

// capability reads the ID that calls begin with.
func (a *args) capability(x *execution) wasmatrix.CapabilityID {
	b := a.bytes(abi.MaxCapabilityID, errCapabilityID)
	if a.err != nil {
		return ""
	}
	if h := x.hold(); len(b) == 0 || string(b) != string(h.named) {
		id := wasmatrix.CapabilityID(b)
		if id.Validate() != nil {
			a.fail(errCapabilityID)
			return ""
		}
		h.named = id
	}
	return x.held.named
}

var errCapabilityID = &refusal{abi.ErrInvalid, "a capability ID is 1 to 64 letters, digits, and after the first also '.', '_' and '-'"}

func (a *args) key() string { return a.text("the key", 1, abi.MaxKey) }

// duration reads milliseconds. Below zero is for ever, if that is allowed.
func (a *args) duration(what string, forever bool) time.Duration {
	ms := int64(a.u64())
	switch {
	case ms < 0 && forever:
		return -1
	case ms < 0:
		a.invalid("%s is %d ms, which is below zero", what, ms)
	case ms > math.MaxInt64/int64(time.Millisecond):
		a.invalid("%s is %d ms, which is too long", what, ms)
	}
	return time.Duration(ms) * time.Millisecond
}

// revision reads the address of a u64 that is to be set, or 0 where nobody wants
// it, and returns nil then.
func (a *args) revision() []byte {
	ptr := a.u32()
	if ptr == 0 {
		return nil
	}
	return a.at(ptr, 8)
}

func setRevision(to []byte, revision uint64) {
	if to != nil {
		binary.LittleEndian.PutUint64(to, revision)
	}
}

// copyTo copies at most n bytes of b, from offset on, to ptr. What is behind the
// end of b needs no room.
func (a *args) copyTo(b []byte, offset, ptr, n uint32) (int32, error) {
	if uint64(offset) >= uint64(len(b)) {
		return 0, nil
	}
	b = b[offset:]
	b = b[:min(uint64(len(b)), uint64(n))]
	to := a.at(ptr, uint32(len(b)))
	if a.err != nil {
		return 0, a.err
	}
	return int32(copy(to, b)), nil
}
