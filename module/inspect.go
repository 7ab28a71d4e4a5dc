package module

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/wasmatrix/wasmatrix"
)

// Bounds on the names that a module record takes into the replicated state.
const (
	maxName  = 1024      // bytes of one name
	maxNames = 128 << 10 // bytes of all names of one module
)

// detailOffset is the key of an error's detail that says how many bytes of the
// module were read when it was found wrong.
const detailOffset = "offset"

// Inspect reads a core WebAssembly module to its end and describes it: all of
// a [wasmatrix.Module] but times and index. It looks at the outline and at
// imports and exports; whether the code in between is valid is for an engine to
// say. It holds no more of the module than the names that it returns.
//
// Not a module, or a malformed one, is E1 with a hint or a detail "offset"; a
// component, another version of Wasm or an unknown type is E6; more than limit
// bytes (0 is [wasmatrix.DefaultMaxModule]) or names beyond the bounds of the
// record are E8. An error of r itself is returned as it is.
func Inspect(r io.Reader, limit int64) (*wasmatrix.Module, error) {
	if limit <= 0 {
		limit = wasmatrix.DefaultMaxModule
	}
	hash := sha256.New()
	bounded := &boundedReader{r: r, left: limit, limit: limit}
	p := &parser{r: bufio.NewReaderSize(io.TeeReader(bounded, hash), 64<<10)}
	m, err := p.module()
	if err != nil {
		return nil, err
	}
	m.Size = p.off
	hash.Sum(m.Digest[:0])
	return m, nil
}

// InspectBytes is [Inspect] of b.
func InspectBytes(b []byte, limit int64) (*wasmatrix.Module, error) {
	return Inspect(bytes.NewReader(b), limit)
}

// errTooLarge is E8 for a module of more than limit bytes.
func errTooLarge(limit int64) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "module is larger than %s, the largest allowed",
		wasmatrix.FormatBytes(uint64(limit))).With("limit", strconv.FormatInt(limit, 10))
}

// boundedReader fails with errTooLarge, rather than end, after limit bytes.
type boundedReader struct {
	r           io.Reader
	left, limit int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if b.left == 0 {
		n, err := b.r.Read(p[:1])
		if n > 0 {
			return 0, errTooLarge(b.limit)
		}
		return 0, err
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// Section IDs of the binary format.
const (
	sectionCustom   = 0
	sectionImport   = 2
	sectionFunction = 3
	sectionExport   = 7
	sectionCode     = 10
)

// sections gives each section its name and its place in a module; all but
// custom sections occur at most once and in this order.
var sections = [...]struct {
	name string
	rank int
}{
	{"custom", 0},
	{"type", 1}, {"import", 2}, {"function", 3}, {"table", 4}, {"memory", 5},
	{"global", 7}, {"export", 8}, {"start", 9}, {"element", 10}, {"code", 12},
	{"data", 13}, {"data count", 11}, {"tag", 6},
}

const (
	externFunc   = 0
	externTable  = 1
	externMemory = 2
	externGlobal = 3
	externTag    = 4
)

// parser reads the outline of a module, and never beyond the section it is in.
type parser struct {
	r       *bufio.Reader
	off     int64  // bytes consumed
	end     int64  // where the current section ends
	section string // its name; "" between sections

	imports, exports map[string]struct{}
	names            int    // bytes in both
	importedFuncs    uint32 // all of them, also those of one name
	funcs, bodies    uint32 // entries of the function and the code section
	highestExport    int64  // highest function index that is exported
	command          bool
}

func (p *parser) module() (*wasmatrix.Module, error) {
	head, err := p.r.Peek(sniffed)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := checkHead(head); err != nil {
		return nil, err
	}
	if err := p.discard(headerLen); err != nil {
		return nil, err
	}
	p.imports, p.exports = make(map[string]struct{}), make(map[string]struct{})
	p.highestExport = -1
	for rank := 0; ; {
		id, err := p.r.ReadByte()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if int(id) >= len(sections) {
			return nil, p.malformed("%d is no section", id)
		}
		p.off++
		if id != sectionCustom {
			if sections[id].rank <= rank {
				return nil, p.malformed("the %s section is out of order or there twice", sections[id].name)
			}
			rank = sections[id].rank
		}
		if err := p.readSection(id); err != nil {
			return nil, err
		}
	}
	if p.funcs != p.bodies {
		return nil, p.malformed("%d functions are declared and %d are defined", p.funcs, p.bodies)
	}
	if n := int64(p.importedFuncs) + int64(p.funcs); p.highestExport >= n {
		return nil, p.malformed("function %d is exported and there are %d", p.highestExport, n)
	}
	m := &wasmatrix.Module{
		Kind:    wasmatrix.ModuleReactor,
		Imports: slices.Sorted(maps.Keys(p.imports)),
		Exports: slices.Sorted(maps.Keys(p.exports)),
	}
	if p.command {
		m.Kind = wasmatrix.ModuleCommand
	}
	return m, nil
}

func (p *parser) readSection(id byte) error {
	p.section, p.end = sections[id].name, p.off+maxVarint32
	defer func() { p.section = "" }()
	size, err := p.u32()
	if err != nil {
		return err
	}
	p.end = p.off + int64(size)
	switch id {
	case sectionImport:
		err = p.readImports()
	case sectionExport:
		err = p.readExports()
	case sectionFunction:
		p.funcs, err = p.count(1)
	case sectionCode:
		p.bodies, err = p.count(3)
	case sectionCustom:
		_, err = p.length()
	}
	if err != nil {
		return err
	}
	rest := p.end - p.off
	if rest > 0 && (id == sectionImport || id == sectionExport) {
		return p.malformed("the %s section has %d bytes too many", p.section, rest)
	}
	return p.discard(rest)
}

func (p *parser) readImports() error {
	n, err := p.count(4)
	if err != nil {
		return err
	}
	for range n {
		module, err := p.name()
		if err != nil {
			return err
		}
		name, err := p.name()
		if err != nil {
			return err
		}
		kind, err := p.externType()
		if err != nil {
			return err
		}
		if kind != externFunc {
			continue
		}
		p.importedFuncs++
		if err := p.keep(p.imports, module+"."+name, wasmatrix.MaxModuleImports, "imports"); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) readExports() error {
	n, err := p.count(3)
	if err != nil {
		return err
	}
	for range n {
		name, err := p.name()
		if err != nil {
			return err
		}
		kind, err := p.byte()
		if err != nil {
			return err
		}
		index, err := p.u32()
		if err != nil {
			return err
		}
		if kind > externTag {
			return p.malformed("%d is no kind of export", kind)
		}
		if kind != externFunc {
			continue
		}
		if _, twice := p.exports[name]; twice {
			return p.malformed("%q is exported twice", name)
		}
		p.highestExport = max(p.highestExport, int64(index))
		p.command = p.command || name == "_start"
		if err := p.keep(p.exports, name, wasmatrix.MaxModuleExports, "exports"); err != nil {
			return err
		}
	}
	return nil
}

// keep adds a name to a set of the record, within the record's bounds.
func (p *parser) keep(set map[string]struct{}, name string, most int, what string) error {
	if _, ok := set[name]; ok {
		return nil
	}
	if len(set) == most {
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "module %s more than %d functions", what, most)
	}
	if p.names += len(name); p.names > maxNames {
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the names of the module's imports and exports have more than %d bytes", maxNames)
	}
	set[name] = struct{}{}
	return nil
}

// externType reads the type of an import and returns what it is.
func (p *parser) externType() (byte, error) {
	kind, err := p.byte()
	if err != nil {
		return 0, err
	}
	switch kind {
	case externFunc:
		_, err = p.u32()
	case externTable:
		if err = p.valueType(); err == nil {
			err = p.limits()
		}
	case externMemory:
		err = p.limits()
	case externGlobal:
		if err = p.valueType(); err == nil {
			_, err = p.byte()
		}
	case externTag:
		if _, err = p.byte(); err == nil {
			_, err = p.u32()
		}
	default:
		return 0, p.malformed("%d is no kind of import", kind)
	}
	return kind, err
}

// valueType reads a number, vector or reference type of WebAssembly 2.0.
func (p *parser) valueType() error {
	t, err := p.byte()
	if err != nil {
		return err
	}
	switch t {
	case 0x7f, 0x7e, 0x7d, 0x7c, 0x7b, 0x70, 0x6f:
		return nil
	default:
		return wasmatrix.Errorf(wasmatrix.CodeValidation, "module imports something of type %#02x at byte %d, which WebAssembly 2.0 does not have", t, p.off-1)
	}
}

// limits reads the size of a table or memory: a byte of flags, of which bit 0
// says that a maximum follows and bit 2 that the numbers have 64 bits.
func (p *parser) limits() error {
	flags, err := p.byte()
	if err != nil {
		return err
	}
	if flags > 7 {
		return p.malformed("%#02x are no limits", flags)
	}
	bits := uint(32)
	if flags&4 != 0 {
		bits = 64
	}
	if _, err = p.varint(bits); err == nil && flags&1 != 0 {
		_, err = p.varint(bits)
	}
	return err
}

// count reads how many entries of at least size bytes follow in the section.
func (p *parser) count(size int64) (uint32, error) {
	n, err := p.u32()
	if err != nil {
		return 0, err
	}
	if int64(n)*size > p.end-p.off {
		return 0, p.malformed("%d entries do not fit the %s section", n, p.section)
	}
	return n, nil
}

// length reads the length of a name, which lies within the section.
func (p *parser) length() (int64, error) {
	n, err := p.u32()
	if err != nil {
		return 0, err
	}
	if int64(n) > p.end-p.off {
		return 0, p.malformed("a name of %d bytes does not fit the %s section", n, p.section)
	}
	return int64(n), nil
}

func (p *parser) name() (string, error) {
	n, err := p.length()
	if err != nil {
		return "", err
	}
	if n > maxName {
		return "", wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "module has a name of %d bytes among its imports and exports, at most %d are allowed", n, maxName)
	}
	b, err := p.r.Peek(int(n))
	if err != nil {
		return "", p.broken(err)
	}
	if !utf8.Valid(b) {
		return "", p.malformed("a name is not UTF-8")
	}
	name := string(b)
	return name, p.discard(n)
}

const maxVarint32 = 5 // bytes

func (p *parser) u32() (uint32, error) {
	n, err := p.varint(32)
	return uint32(n), err
}

// varint reads an unsigned LEB128 number of at most the given bits.
func (p *parser) varint(bits uint) (uint64, error) {
	var n uint64
	for shift := uint(0); ; shift += 7 {
		b, err := p.byte()
		if err != nil {
			return 0, err
		}
		if left := bits - shift; left < 7 && b>>left != 0 {
			return 0, p.malformed("a number has more than %d bits", bits)
		}
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
}

func (p *parser) byte() (byte, error) {
	if p.off >= p.end {
		return 0, p.malformed("the %s section ends too early", p.section)
	}
	b, err := p.r.ReadByte()
	if err != nil {
		return 0, p.broken(err)
	}
	p.off++
	return b, nil
}

func (p *parser) discard(n int64) error {
	for n > 0 {
		skipped, err := p.r.Discard(int(min(n, 1<<30)))
		p.off += int64(skipped)
		n -= int64(skipped)
		if err != nil {
			return p.broken(err)
		}
	}
	return nil
}

// broken turns the end of the stream within a section into E1.
func (p *parser) broken(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	where := "header"
	if p.section != "" {
		where = p.section + " section"
	}
	return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "module is truncated: it ends within the %s, which begins before byte %d",
		where, p.off).With(detailOffset, strconv.FormatInt(p.off, 10))
}

func (p *parser) malformed(format string, args ...any) *wasmatrix.Error {
	why := wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, format, args...).Message
	return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "module is malformed at byte %d: %s", p.off, why).
		With(detailOffset, strconv.FormatInt(p.off, 10))
}
