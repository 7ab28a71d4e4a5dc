package meter_test

// A builder of modules for tests that want many of a kind.

const (
	i32 = 0x7f
	i64 = 0x7e
	f64 = 0x7c
)

func leb(n int) []byte {
	var b []byte
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func cat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func vec(items ...[]byte) []byte { return append(leb(len(items)), cat(items...)...) }

func str(s string) []byte { return append(leb(len(s)), s...) }

func section(id byte, content []byte) []byte {
	return cat([]byte{id}, leb(len(content)), content)
}

func funcType(params, results []byte) []byte {
	return cat([]byte{0x60}, leb(len(params)), params, leb(len(results)), results)
}

// code is the body of a function with locals of one type each given by count and type.
func code(locals [][]byte, instructions ...byte) []byte {
	b := cat(vec(locals...), instructions, []byte{0x0b})
	return append(leb(len(b)), b...)
}

func wasm(sections ...[]byte) []byte {
	return append([]byte("\x00asm\x01\x00\x00\x00"), cat(sections...)...)
}

// single is a module of one function without parameters, exported as "f".
func single(results []byte, locals [][]byte, instructions ...byte) []byte {
	return wasm(
		section(1, vec(funcType(nil, results))),
		section(3, vec([]byte{0})),
		section(7, vec(cat(str("f"), []byte{0, 0}))),
		section(10, vec(code(locals, instructions...))),
	)
}
