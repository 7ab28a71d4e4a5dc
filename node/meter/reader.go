package meter

import "unicode/utf8"

// reader decodes a part of the module. After the first error it gives zeros and
// stays where it is, so that callers need to check only where they loop or
// keep what they read.
type reader struct {
	src []byte // the whole module, so that offsets in errors are those of the file
	pos int
	end int
	err error
}

func (r *reader) left() int { return r.end - r.pos }

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
		r.end = r.pos
	}
}

func (r *reader) byte() byte {
	if r.pos >= r.end {
		r.fail(malformed(r.pos, "unexpected end"))
		return 0
	}
	b := r.src[r.pos]
	r.pos++
	return b
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(r.left()) {
		r.fail(malformed(r.pos, "unexpected end"))
		return nil
	}
	b := r.src[r.pos : r.pos+int(n) : r.pos+int(n)]
	r.pos += int(n)
	return b
}

// u32 reads an unsigned LEB128 number of at most 32 bits.
func (r *reader) u32() uint32 {
	if r.pos < r.end { // most are of one byte
		if b := r.src[r.pos]; b < 0x80 {
			r.pos++
			return uint32(b)
		}
	}
	var v uint32
	for i := range 5 {
		b := r.byte()
		if b < 0x80 {
			if i == 4 && b > 0x0f {
				break
			}
			return v | uint32(b)<<(7*i)
		}
		v |= uint32(b&0x7f) << (7 * i)
	}
	r.fail(malformed(r.pos, "integer too large"))
	return 0
}

// signed reads a signed LEB128 number of at most n bytes.
func (r *reader) signed(n int) int64 {
	var v int64
	for i := range n {
		b := r.byte()
		v |= int64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if shift := 7 * (i + 1); shift < 64 && b&0x40 != 0 {
				v |= -1 << shift
			}
			return v
		}
	}
	r.fail(malformed(r.pos, "integer too large"))
	return 0
}

// i32 reads a signed number of 32 bits.
func (r *reader) i32() int32 { return int32(r.signed(5)) }

// s33 reads the number of a block type: a type index, or a negative code. Of a
// fifth byte five bits belong to the number; what the others must be is checked by
// the engine, to which the same bytes go.
func (r *reader) s33() int64 { return r.signed(5) << 31 >> 31 }

// count reads the length of a vector whose items take at least size bytes each,
// so that nothing is allocated that the module does not hold.
func (r *reader) count(size int) uint32 {
	at := r.pos
	n := r.u32()
	if uint64(n)*uint64(size) > uint64(r.left()) {
		r.fail(malformed(at, "length %d is beyond the end", n))
		return 0
	}
	return n
}

func (r *reader) name() string {
	at := r.pos
	b := r.bytes(uint64(r.u32()))
	if !utf8.Valid(b) {
		r.fail(malformed(at, "name is not UTF-8"))
		return ""
	}
	return string(b)
}
