package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix/node/meter"
)

// Layout of the directory: entries/KEY holds manifest, metered module and
// debug information; wazero's directory, beside it, the native code.
const (
	entriesDir   = "entries"
	manifestFile = "manifest.json"
	tempPrefix   = "tmp-"
)

// format is that of entries.
const format = 1

// version names all that decides, besides the module, what is compiled: the
// format of entries, the meter and its options, the engine and the processor.
func version(e engine, cfg *Config) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s|%+v|%+v|%+v", program(), e, cfg.Limits, meter.DefaultLimits)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// index is what the cache has. It is guarded by Cache.mu.
type index struct {
	dir, code string
	entries   map[string]*entry
	codeUsers map[string]int // entries of each file of code, also those that are gone but in use: like modules share one
	bytes     int64          // of entries
}

// entry is one compiled module.
type entry struct {
	key  string
	dir  string
	m    manifest
	used time.Time
	pins int
	gone bool // removed from the index; goes from the disk with the last pin
}

// removeLeftovers removes what an interrupted process left.
func removeLeftovers(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// openIndex reads what the directory holds, and removes what belongs to no entry
// of this version.
func openIndex(dir, code, version string) (index, error) {
	x := index{dir: dir, code: code, entries: make(map[string]*entry), codeUsers: make(map[string]int)}
	all, err := os.ReadDir(filepath.Join(dir, entriesDir))
	if err != nil {
		return x, err
	}
	for _, d := range all {
		path := filepath.Join(dir, entriesDir, d.Name())
		e, err := readEntry(path, d.Name())
		if err != nil || !strings.HasSuffix(d.Name(), "-"+version) {
			if err := os.RemoveAll(path); err != nil {
				return x, err
			}
			continue
		}
		x.add(e)
	}
	return x, x.removeOrphans()
}

func readEntry(path, key string) (*entry, error) {
	name := filepath.Join(path, manifestFile)
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	e := &entry{key: key, dir: path}
	if err := e.m.decode(b); err != nil {
		return nil, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	e.used = info.ModTime()
	return e, nil
}

// removeOrphans removes files of code that no entry has, those of other versions
// of wazero included.
func (x *index) removeOrphans() error {
	dirs, err := filepath.Glob(filepath.Join(x.dir, "wazero-*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if dir != x.code {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	files, err := os.ReadDir(x.code)
	if err != nil {
		return err
	}
	for _, f := range files {
		if x.codeUsers[f.Name()] == 0 {
			if err := os.RemoveAll(filepath.Join(x.code, f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *index) has(key string) bool { return x.entries[key] != nil }

func (x *index) add(e *entry) {
	x.entries[e.key] = e
	x.codeUsers[e.m.Code.Name]++
	x.bytes += e.m.bytes()
}

// put moves what a child has left in dir to its place.
func (x *index) put(key, dir string, m *manifest) (err error) {
	if x.has(key) {
		return nil // another child was quicker
	}
	b, err := m.encode()
	if err != nil {
		return err
	}
	code, err := codeFile(dir)
	if err != nil {
		return err
	}
	e := &entry{key: key, dir: filepath.Join(x.dir, entriesDir, key), m: *m, used: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.erase(e))
		}
	}()
	if err := os.Rename(code, filepath.Join(x.code, m.Code.Name)); err != nil {
		return err
	}
	if err := os.RemoveAll(e.dir); err != nil { // that of a damaged entry that is in use
		return err
	}
	if err := os.Mkdir(e.dir, 0o700); err != nil {
		return err
	}
	for _, f := range []file{m.Module, m.Debug} {
		if f.Name == "" {
			continue
		}
		if err := os.Rename(filepath.Join(dir, f.Name), filepath.Join(e.dir, f.Name)); err != nil {
			return err
		}
	}
	// The manifest comes last: without one there is no entry.
	if err := os.WriteFile(filepath.Join(e.dir, manifestFile), b, 0o600); err != nil {
		return err
	}
	x.add(e)
	return nil
}

// pin returns an entry that stays until it is unpinned, or nil.
func (x *index) pin(key string) *entry {
	e := x.entries[key]
	if e == nil {
		return nil
	}
	e.pins++
	e.used = time.Now()
	// For the order after a restart, no more.
	_ = os.Chtimes(filepath.Join(e.dir, manifestFile), time.Time{}, e.used)
	return e
}

func (x *index) unpin(e *entry, log hclog.Logger) {
	if e.pins--; e.pins == 0 && e.gone {
		x.sweep(e, log)
	}
}

// remove takes an entry out. Its files go when nobody uses them: the engine
// would compile what it does not find.
func (x *index) remove(e *entry, log hclog.Logger) {
	if e.gone {
		return
	}
	e.gone = true
	delete(x.entries, e.key)
	x.bytes -= e.m.bytes()
	if e.pins == 0 {
		x.sweep(e, log)
	}
}

func (x *index) sweep(e *entry, log hclog.Logger) {
	if x.codeUsers[e.m.Code.Name]--; x.codeUsers[e.m.Code.Name] == 0 {
		delete(x.codeUsers, e.m.Code.Name)
	}
	if err := x.erase(e); err != nil {
		log.Warn("removing an entry of the compilation cache", "error", err)
	}
}

// erase removes the files of an entry that is not in the index, unless they are
// those of one that is.
func (x *index) erase(e *entry) error {
	var dir, code error
	if !x.has(e.key) {
		dir = os.RemoveAll(e.dir)
	}
	if x.codeUsers[e.m.Code.Name] == 0 {
		code = os.RemoveAll(filepath.Join(x.code, e.m.Code.Name))
	}
	return errors.Join(dir, code)
}

// evict removes the entries that were used longest ago, but none that is in use,
// until the rest fits.
func (x *index) evict(limit int64, log hclog.Logger) {
	if x.bytes <= limit {
		return
	}
	var idle []*entry
	for _, e := range x.entries {
		if e.pins == 0 {
			idle = append(idle, e)
		}
	}
	slices.SortFunc(idle, func(a, b *entry) int { return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.key, b.key)) })
	for _, e := range idle {
		if x.bytes <= limit {
			return
		}
		x.remove(e, log)
	}
}

// artifact reads and verifies an entry whose native code lies in the directory code.
func (e *entry) artifact(code string) (*Artifact, error) {
	wasm, err := e.m.Module.read(e.dir)
	if err != nil {
		return nil, err
	}
	if err := e.m.Code.verify(code); err != nil {
		return nil, err
	}
	a := &Artifact{
		Wasm: wasm, Kind: e.m.Kind, Imports: e.m.Imports, Tables: e.m.Tables, Memory: e.m.Module.Bytes + e.m.Code.Bytes,
	}
	if e.m.Debug.Name != "" {
		if err := e.m.Debug.verify(e.dir); err != nil {
			return nil, err
		}
		a.Debug = func() (*meter.Debug, error) {
			b, err := e.m.Debug.read(e.dir)
			if err != nil {
				return nil, err
			}
			d := new(meter.Debug)
			return d, d.UnmarshalBinary(b)
		}
	}
	return a, nil
}
