package module

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"

	"github.com/wasmatrix/wasmatrix"
)

const (
	headerLen = 8   // bytes of magic, version and layer
	sniffed   = 512 // bytes looked at to say what something is that is no module
)

var magic = []byte("\x00asm")

// checkHead reports why something that begins with head, its first bytes, is
// not a core module, or nil.
func checkHead(head []byte) error {
	if len(head) == 0 {
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "module is empty")
	}
	if !bytes.HasPrefix(head, magic) {
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "not a WebAssembly module: %s", hint(head))
	}
	if len(head) < headerLen {
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "module is truncated: it has %d bytes", len(head)).With(detailOffset, "4")
	}
	// A component has the same magic, then a version of its own and layer 1.
	version, layer := binary.LittleEndian.Uint16(head[4:]), binary.LittleEndian.Uint16(head[6:])
	switch {
	case layer == 1:
		return wasmatrix.Errorf(wasmatrix.CodeValidation, "this is a WebAssembly component, and only core modules run here: "+
			"build a core module for WASI preview 1 (target wasm32-wasip1, or GOOS=wasip1 GOARCH=wasm), "+
			"or take the core module out of it with \"wasm-tools component unbundle\"")
	case version != 1 || layer != 0:
		return wasmatrix.Errorf(wasmatrix.CodeValidation, "module has version %d of the WebAssembly binary format, and only version 1 is supported",
			binary.LittleEndian.Uint32(head[4:]))
	}
	return nil
}

// signatures are the beginnings of files that are mistaken for modules.
var signatures = []struct{ prefix, hint string }{
	{"\x7fELF", "looks like a native program or library (ELF): compile it for WebAssembly instead"},
	{"MZ", "looks like a Windows program: compile it for WebAssembly instead"},
	{"\xcf\xfa\xed\xfe", "looks like a native program (Mach-O): compile it for WebAssembly instead"},
	{"\xca\xfe\xba\xbe", "looks like a Java class or a native program (Mach-O): compile it for WebAssembly instead"},
	{"!<arch>\n", "looks like a static library: link it into a module first"},
	{"BC\xc0\xde", "looks like LLVM bitcode: compile and link it into a module first"},
	{"PK\x03\x04", "looks like a zip archive: unpack it and take the .wasm file"},
	{"\x1f\x8b", "looks like gzip: decompress it first"},
	{"\x28\xb5\x2f\xfd", "looks like zstd: decompress it first"},
	{"BZh", "looks like bzip2: decompress it first"},
	{"\xfd7zXZ\x00", "looks like xz: decompress it first"},
	{"#!", "looks like a script"},
}

const (
	hintWAT  = "looks like WebAssembly text: compile it with wat2wasm"
	hintWIT  = "looks like a WIT interface, which describes a component and has no code"
	hintJS   = "looks like JavaScript: give the .wasm file that belongs to it"
	hintHTML = "looks like a web page, perhaps the answer of a download that failed"
)

// textual are the beginnings of texts, after white space and comments.
var textual = []struct{ prefix, hint string }{
	{"(module", hintWAT}, {"(component", hintWAT}, {"(;", hintWAT}, {";;", hintWAT},
	{"package ", hintWIT}, {"interface ", hintWIT}, {"world ", hintWIT},
	{"import ", hintJS}, {"export ", hintJS}, {"const ", hintJS}, {"let ", hintJS}, {"var ", hintJS},
	{"function", hintJS}, {"async ", hintJS}, {"\"use strict\"", hintJS}, {"'use strict'", hintJS}, {"(function", hintJS}, {"(()", hintJS},
	{"<!DOCTYPE", hintHTML}, {"<!doctype", hintHTML}, {"<html", hintHTML},
	{"{", "looks like JSON"}, {"version https://git-lfs", "is a pointer of Git LFS: fetch the file with \"git lfs pull\""},
}

func hint(head []byte) string {
	for _, s := range signatures {
		if bytes.HasPrefix(head, []byte(s.prefix)) {
			return s.hint
		}
	}
	if !isText(head) {
		return "it does not begin with the bytes 00 61 73 6d"
	}
	text := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	text = skipComments(text)
	for _, s := range textual {
		if !bytes.HasPrefix(text, []byte(s.prefix)) {
			continue
		}
		// A package clause of WIT names a namespace; those of Go and Java do not.
		line, _, _ := bytes.Cut(text, []byte("\n"))
		if s.prefix == "package " && !bytes.Contains(line, []byte(":")) {
			return "looks like source code: compile it for WebAssembly"
		}
		return s.hint
	}
	return "looks like a text file"
}

// skipComments drops // and /* */ comments at the beginning of text.
func skipComments(text []byte) []byte {
	for {
		var rest []byte
		var ended bool
		switch {
		case bytes.HasPrefix(text, []byte("//")):
			_, rest, ended = bytes.Cut(text, []byte("\n"))
		case bytes.HasPrefix(text, []byte("/*")):
			_, rest, ended = bytes.Cut(text, []byte("*/"))
		}
		if !ended {
			return text
		}
		text = bytes.TrimLeft(rest, " \t\r\n")
	}
}

// isText reports whether head is UTF-8 without control characters; its last
// character may be cut off.
func isText(head []byte) bool {
	for len(head) > 0 {
		r, n := utf8.DecodeRune(head)
		if r == utf8.RuneError && n == 1 && utf8.FullRune(head) {
			return false
		}
		if r < ' ' && r != '\n' && r != '\r' && r != '\t' && r != '\f' {
			return false
		}
		head = head[n:]
	}
	return true
}
