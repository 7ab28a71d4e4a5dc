package module_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/module"
)

// wasm joins sections behind the header of a core module.
func wasm(sections ...[]byte) []byte {
	return append([]byte("\x00asm\x01\x00\x00\x00"), bytes.Join(sections, nil)...)
}

func section(id byte, content ...byte) []byte {
	return append(append([]byte{id}, uleb(len(content))...), content...)
}

func uleb(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

func name(s string) []byte { return append(uleb(len(s)), s...) }

func vec(entries ...[]byte) []byte {
	return append(uleb(len(entries)), bytes.Join(entries, nil)...)
}

func funcImport(mod, fn string) []byte {
	return bytes.Join([][]byte{name(mod), name(fn), {0, 0}}, nil)
}

func funcExport(fn string, index int) []byte {
	return bytes.Join([][]byte{name(fn), {0}, uleb(index)}, nil)
}

// funcs are the sections that define n empty functions of type () -> ().
func funcs(n int) (types, declared, bodies []byte) {
	decl, body := uleb(n), uleb(n)
	for range n {
		decl, body = append(decl, 0), append(body, 2, 0, 0x0b)
	}
	return section(1, 1, 0x60, 0, 0), section(3, decl...), section(10, body...)
}

func TestInspectDescribesAModule(t *testing.T) {
	types, declared, bodies := funcs(3)
	b := wasm(
		section(0, name("producers")...),
		types,
		section(2, vec(
			funcImport("wasi_snapshot_preview1", "proc_exit"),
			append(append(name("env"), name("memory")...), 2, 1, 1, 2),
			append(append(name("env"), name("table")...), 1, 0x70, 0, 1),
			append(append(name("env"), name("global")...), 3, 0x7f, 0),
			append(append(name("env"), name("tag")...), 4, 0, 0),
			funcImport("env", "log"),
			funcImport("env", "log"), // twice is allowed
		)...),
		declared,
		section(7, vec(funcExport("_start", 3), funcExport("add", 5), append(name("memory"), 2, 0))...),
		bodies,
		section(0, append(name("name"), bytes.Repeat([]byte{7}, 100_000)...)...),
	)
	for _, r := range []io.Reader{bytes.NewReader(b), iotest.OneByteReader(bytes.NewReader(b)), iotest.DataErrReader(bytes.NewReader(b))} {
		m, err := module.Inspect(r, int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if m.Digest != wasmatrix.DigestOf(b) || m.Size != int64(len(b)) || m.Kind != wasmatrix.ModuleCommand {
			t.Errorf("got %v of %d bytes, a %v", m.Digest, m.Size, m.Kind)
		}
		if want := []string{"env.log", "wasi_snapshot_preview1.proc_exit"}; !slices.Equal(m.Imports, want) {
			t.Errorf("imports %q, want %q", m.Imports, want)
		}
		if want := []string{"_start", "add"}; !slices.Equal(m.Exports, want) {
			t.Errorf("exports %q, want %q", m.Exports, want)
		}
	}
}

func TestInspectTellsReactorsFromCommands(t *testing.T) {
	types, declared, bodies := funcs(1)
	memory := section(5, 1, 0, 1)
	for what, c := range map[string]struct {
		exports []byte
		want    wasmatrix.ModuleKind
	}{
		"nothing":                  {nil, wasmatrix.ModuleReactor},
		"_initialize":              {section(7, vec(funcExport("_initialize", 0))...), wasmatrix.ModuleReactor},
		"_start":                   {section(7, vec(funcExport("_start", 0))...), wasmatrix.ModuleCommand},
		"a memory that has a name": {section(7, vec(append(name("_start"), 2, 0))...), wasmatrix.ModuleReactor},
	} {
		m, err := module.InspectBytes(wasm(types, declared, memory, c.exports, bodies), 0)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if m.Kind != c.want {
			t.Errorf("%s makes it a %v, want a %v", what, m.Kind, c.want)
		}
	}
	if m, err := module.InspectBytes(wasm(), 0); err != nil || m.Kind != wasmatrix.ModuleReactor {
		t.Errorf("the smallest module is %v, %v", m, err)
	}
}

func TestP18_WhatIsNoModuleHasItsCodeAndHint(t *testing.T) {
	types, declared, bodies := funcs(1)
	for what, c := range map[string]struct {
		bytes string
		code  wasmatrix.Code
		says  string
	}{
		"empty":             {"", wasmatrix.CodeInvalidRequest, "module is empty"},
		"WAT":               {"(module\n  (func))", wasmatrix.CodeInvalidRequest, "wat2wasm"},
		"WAT comment":       {"\n ;; adds\n(module)", wasmatrix.CodeInvalidRequest, "wat2wasm"},
		"text":              {"hello, world\n", wasmatrix.CodeInvalidRequest, "text file"},
		"cut-off text":      {strings.Repeat("x", 511) + "é", wasmatrix.CodeInvalidRequest, "text file"},
		"WIT":               {"// an API\npackage wasi:clocks@0.2.0;\n", wasmatrix.CodeInvalidRequest, "WIT"},
		"Go source":         {"/* hi */ package main\n", wasmatrix.CodeInvalidRequest, "source code"},
		"JavaScript":        {"import fs from 'fs'\n", wasmatrix.CodeInvalidRequest, "JavaScript"},
		"HTML":              {"<!DOCTYPE html>", wasmatrix.CodeInvalidRequest, "web page"},
		"JSON":              {`{"a":1}`, wasmatrix.CodeInvalidRequest, "JSON"},
		"script":            {"#!/bin/sh\n", wasmatrix.CodeInvalidRequest, "script"},
		"LFS":               {"version https://git-lfs.github.com/spec/v1\n", wasmatrix.CodeInvalidRequest, "git lfs pull"},
		"ELF":               {"\x7fELF\x02\x01\x01", wasmatrix.CodeInvalidRequest, "ELF"},
		"zip":               {"PK\x03\x04\x14\x00", wasmatrix.CodeInvalidRequest, "zip"},
		"gzip":              {"\x1f\x8b\x08\x00", wasmatrix.CodeInvalidRequest, "gzip"},
		"noise":             {"\x01\x02\x03\x04\x05", wasmatrix.CodeInvalidRequest, "00 61 73 6d"},
		"half a header":     {"\x00asm\x01", wasmatrix.CodeInvalidRequest, "truncated"},
		"component":         {"\x00asm\x0d\x00\x01\x00", wasmatrix.CodeValidation, "component"},
		"version 2":         {"\x00asm\x02\x00\x00\x00", wasmatrix.CodeValidation, "version 2"},
		"unknown section":   {string(wasm(section(14))), wasmatrix.CodeInvalidRequest, "byte 8"},
		"section twice":     {string(wasm(types, types)), wasmatrix.CodeInvalidRequest, "out of order"},
		"wrong order":       {string(wasm(declared, types)), wasmatrix.CodeInvalidRequest, "out of order"},
		"tag after global":  {string(wasm(section(6, 0), section(13, 0))), wasmatrix.CodeInvalidRequest, "out of order"},
		"cut-off section":   {string(wasm(section(1, make([]byte, 9)...))[:12]), wasmatrix.CodeInvalidRequest, "truncated"},
		"no section size":   {string(wasm([]byte{1})), wasmatrix.CodeInvalidRequest, "truncated"},
		"endless size":      {string(wasm([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 1})), wasmatrix.CodeInvalidRequest, "32 bits"},
		"no bodies":         {string(wasm(types, declared)), wasmatrix.CodeInvalidRequest, "1 functions are declared and 0"},
		"huge count":        {string(wasm(section(2, 0xff, 0xff, 0xff, 0xff, 0x0f))), wasmatrix.CodeInvalidRequest, "do not fit"},
		"huge name":         {string(wasm(section(2, 1, 0xff, 0xff, 0xff, 0xff, 0x0f))), wasmatrix.CodeInvalidRequest, "does not fit"},
		"name beyond it":    {string(wasm(section(2, append([]byte{1}, append(uleb(4), "abc"...)...)...))), wasmatrix.CodeInvalidRequest, "does not fit"},
		"not UTF-8":         {string(wasm(section(2, vec(funcImport("\xff", "x"))...))), wasmatrix.CodeInvalidRequest, "UTF-8"},
		"kind of import":    {string(wasm(section(2, vec(append(append(name("a"), name("b")...), 9, 0))...))), wasmatrix.CodeInvalidRequest, "no kind of import"},
		"kind of export":    {string(wasm(section(7, vec(append(name("a"), 9, 0))...))), wasmatrix.CodeInvalidRequest, "no kind of export"},
		"type of a global":  {string(wasm(section(2, vec(append(append(name("a"), name("b")...), 3, 0x64, 0))...))), wasmatrix.CodeValidation, "WebAssembly 2.0"},
		"limits":            {string(wasm(section(2, vec(append(append(name("a"), name("b")...), 2, 0x80, 0))...))), wasmatrix.CodeInvalidRequest, "limits"},
		"bytes too many":    {string(wasm(section(7, 0, 0))), wasmatrix.CodeInvalidRequest, "too many"},
		"exported twice":    {string(wasm(types, declared, section(7, vec(funcExport("a", 0), funcExport("a", 0))...), bodies)), wasmatrix.CodeInvalidRequest, "exported twice"},
		"exports nothing":   {string(wasm(types, declared, section(7, vec(funcExport("a", 1))...), bodies)), wasmatrix.CodeInvalidRequest, "function 1 is exported"},
		"name of 2000":      {string(wasm(section(2, vec(funcImport(strings.Repeat("n", 2000), "x"))...))), wasmatrix.CodeResourceExhausted, "2000 bytes"},
		"too many imports":  {string(wasm(section(2, vec(imports(wasmatrix.MaxModuleImports+1, 4)...)...))), wasmatrix.CodeResourceExhausted, "more than 256"},
		"names of imports":  {string(wasm(section(2, vec(imports(200, 1000)...)...))), wasmatrix.CodeResourceExhausted, "the names"},
		"custom no name":    {string(wasm(section(0))), wasmatrix.CodeInvalidRequest, "ends too early"},
		"custom short name": {string(wasm(section(0, 9, 'x'))), wasmatrix.CodeInvalidRequest, "does not fit"},
	} {
		m, err := module.InspectBytes([]byte(c.bytes), 0)
		if wasmatrix.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, %v, want %s with %q", what, m, err, c.code, c.says)
		}
		if says := wasmatrix.AsError(err); says != nil && strings.Contains(says.Message, "malformed") {
			if at, err := strconv.Atoi(says.Details["offset"]); err != nil || at < 8 || at > len(c.bytes) {
				t.Errorf("%s: offset %q of %d bytes", what, says.Details["offset"], len(c.bytes))
			}
		}
	}
}

func imports(n, size int) [][]byte {
	var all [][]byte
	for i := range n {
		all = append(all, funcImport("m", strings.Repeat("i", size)+strconv.Itoa(i)))
	}
	return all
}

func TestInspectStopsAtTheLimit(t *testing.T) {
	b := wasm(section(0, append(name("pad"), make([]byte, 1000)...)...))
	if _, err := module.InspectBytes(b, int64(len(b))); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if _, err := module.InspectBytes(b, int64(len(b)-1)); wasmatrix.CodeOf(err) != wasmatrix.CodeResourceExhausted {
		t.Errorf("a byte beyond the limit: %v", err)
	}
	// A stream without an end is read no further than the limit.
	endless := &countingReader{r: io.MultiReader(bytes.NewReader(wasm([]byte{0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0})), zeros{})}
	if _, err := module.Inspect(endless, 1<<20); wasmatrix.CodeOf(err) != wasmatrix.CodeResourceExhausted {
		t.Errorf("endless: %v", err)
	}
	if endless.n > 1<<20+1 {
		t.Errorf("read %d bytes of an endless stream with a limit of %d", endless.n, 1<<20)
	}
}

func TestInspectReturnsErrorsOfTheReader(t *testing.T) {
	broken := errors.New("line dropped")
	for _, n := range []int64{0, 3, 9, 20} {
		b := wasm(section(0, append(name("pad"), make([]byte, 1000)...)...))
		r := io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(broken))
		if _, err := module.Inspect(r, 0); !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// TestInspectAllocatesByWhatItReads holds small inputs that announce much to a
// small amount of memory.
func TestInspectAllocatesByWhatItReads(t *testing.T) {
	big := []byte{0xff, 0xff, 0xff, 0xff, 0x0f}
	for _, b := range [][]byte{
		wasm(append([]byte{0}, big...)),
		wasm(append(append([]byte{2}, big...), big...)),
		wasm(append(append([]byte{2}, big...), append([]byte{1}, big...)...)),
		wasm(append(append([]byte{7}, big...), append([]byte{0xff, 0xff, 0xff, 0x1f}, 0xff, 0xff, 0x0f)...)),
		wasm(append(append([]byte{3}, big...), big...)),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := module.InspectBytes(b, 0); err == nil {
			t.Errorf("%x passed", b)
		}
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
			t.Errorf("%x took %d bytes to refuse", b, used)
		}
	}
}

// TestInspectFindsWhatWasBuilt builds modules at random.
func TestInspectFindsWhatWasBuilt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-zA-Z_.é]{0,12}`)
		want := map[string]bool{}
		var entries [][]byte
		nimports := rapid.IntRange(0, 20).Draw(t, "imports")
		for range nimports {
			m, f := word.Draw(t, "module"), word.Draw(t, "function")
			want[m+"."+f] = true
			entries = append(entries, funcImport(m, f))
		}
		exports := rapid.SliceOfNDistinct(word, 0, 20, rapid.ID[string]).Draw(t, "exports")
		n := rapid.IntRange(0, 9).Draw(t, "functions")
		if nimports+n == 0 {
			n = 1
		}
		var exported [][]byte
		for _, e := range exports {
			exported = append(exported, funcExport(e, rapid.IntRange(0, nimports+n-1).Draw(t, "index")))
		}
		types, declared, bodies := funcs(n)
		b := wasm(types, section(2, vec(entries...)...), declared, section(7, vec(exported...)...), bodies)
		m, err := module.InspectBytes(b, 0)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(exports)
		if !slices.Equal(m.Exports, exports) || !slices.Equal(m.Imports, slices.Sorted(maps.Keys(want))) {
			t.Fatalf("got %q and %q, want %q and %q", m.Imports, m.Exports, slices.Sorted(maps.Keys(want)), exports)
		}
		// Whatever is cut off, what is left is no module, or ends between sections.
		cut := rapid.IntRange(1, len(b)-1).Draw(t, "cut")
		if m, err := module.InspectBytes(b[:cut], 0); err == nil && m.Size != int64(cut) {
			t.Fatalf("cut at %d: %v", cut, m)
		} else if err != nil && wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	})
}

func FuzzInspect(f *testing.F) {
	types, declared, bodies := funcs(2)
	f.Add([]byte("(module)"))
	f.Add([]byte("\x00asm\x0d\x00\x01\x00"))
	f.Add(wasm(types, section(2, vec(imports(3, 4)...)...), declared, section(7, vec(funcExport("_start", 0))...), bodies))
	f.Add(wasm(section(2, vec(append(append(name("a"), name("b")...), 2, 7, 1, 1))...)))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := module.InspectBytes(b, 1<<20)
		if err != nil {
			e, ok := errors.AsType[*wasmatrix.Error](err)
			if !ok || m != nil {
				t.Fatalf("got %v and an error without a code: %v", m, err)
			}
			switch e.Code {
			case wasmatrix.CodeInvalidRequest, wasmatrix.CodeValidation, wasmatrix.CodeResourceExhausted:
			default:
				t.Fatalf("bytes alone cannot make %v", err)
			}
			return
		}
		if m.Size != int64(len(b)) || m.Digest != wasmatrix.DigestOf(b) {
			t.Fatalf("%d bytes became %d", len(b), m.Size)
		}
		if len(m.Imports) > wasmatrix.MaxModuleImports || len(m.Exports) > wasmatrix.MaxModuleExports ||
			!slices.IsSorted(m.Imports) || !slices.IsSorted(m.Exports) {
			t.Fatalf("names out of bounds: %d, %d", len(m.Imports), len(m.Exports))
		}
		if (m.Kind == wasmatrix.ModuleCommand) != slices.Contains(m.Exports, "_start") {
			t.Fatalf("a %v with %q", m.Kind, m.Exports)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}
