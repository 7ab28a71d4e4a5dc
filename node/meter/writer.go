package meter

// Encodings of the binary format.

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendS64(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendName(b []byte, s string) []byte {
	return append(appendU32(b, uint32(len(s))), s...)
}

// costBytes is how wide a cost is written: its place is reserved before the cost is known.
const costBytes = 5

// maxCost is the largest number that fits into costBytes of signed LEB128. Larger costs saturate.
const maxCost = 1<<(7*costBytes-1) - 1

func putCost(b []byte, v uint64) {
	v = min(v, maxCost)
	for i := range costBytes {
		b[i] = byte(v>>(7*i))&0x7f | 0x80
	}
	b[costBytes-1] &= 0x7f
}

func appendSection(b []byte, id byte, content []byte) []byte {
	b = append(b, id)
	b = appendU32(b, uint32(len(content)))
	return append(b, content...)
}

// vector is a count with items that are encoded already.
func vector(n int, items []byte) []byte {
	return append(appendU32(nil, uint32(n)), items...)
}
