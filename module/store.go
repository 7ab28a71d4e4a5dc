package module

import (
	"cmp"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
)

// Names within a store's directory.
const (
	suffixModule = ".wasm"   // of a module, after the hexadecimal digest
	prefixTemp   = "write-"  // of a file that is being written
	dirDamaged   = "damaged" // where files go that do not have the digest of their name
)

// Config says where a store keeps its modules.
type Config struct {
	Dir string // made where it does not exist; no other process may use it
	// MaxBytes bounds the bytes kept, those being written included; 0 is
	// unlimited. The modules used longest ago give way, except open ones.
	MaxBytes int64
	Logger   hclog.Logger // nil is silent
}

// Store keeps modules as files on a disk. A module is there once it was
// written and synchronised as a whole, and gone otherwise, whenever the process
// or the machine dies. All methods may be called from any goroutine; those that
// touch the disk block on it.
type Store struct {
	dir string
	max int64
	log hclog.Logger

	mu     sync.Mutex
	files  map[wasmatrix.Digest]*stored
	recent *list.List // of *stored, the most recently used first
	total  int64      // bytes of files, and of what writers reserved
}

// stored is one module on the disk. Its fields are guarded by Store.mu.
type stored struct {
	digest wasmatrix.Digest
	size   int64
	pins   int // readers that have it open
	elem   *list.Element
}

// Entry is a module in a [Store].
type Entry struct {
	Digest wasmatrix.Digest
	Size   int64 // bytes
}

// OpenStore opens the store in a directory and removes what an earlier process
// left half written. Contents are not verified until they are read.
func OpenStore(c Config) (*Store, error) {
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	s := &Store{
		dir: c.Dir, max: c.MaxBytes, log: c.Logger,
		files: make(map[wasmatrix.Digest]*stored), recent: list.New(),
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, storageError("open the module store", err)
	}
	// A module would be gone with the directory that holds it.
	if err := syncDir(filepath.Dir(filepath.Clean(s.dir))); err != nil {
		return nil, storageError("open the module store", err)
	}
	if err := s.load(); err != nil {
		return nil, storageError("open the module store", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.evict(0)
	return s, nil
}

// load indexes the directory; files used last come first by their time of
// modification, which opening a file of a bounded store sets.
func (s *Store) load() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	type found struct {
		stored
		used time.Time
	}
	var all []found
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefixTemp) {
			s.log.Debug("removing a module that was half written", "file", e.Name())
			if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil {
				return err
			}
			continue
		}
		d, ok := digestOfName(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		all = append(all, found{stored{digest: d, size: info.Size()}, info.ModTime()})
	}
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Or(a.used.Compare(b.used), slices.Compare(a.digest[:], b.digest[:]))
	})
	for _, f := range all {
		s.insert(f.digest, f.size)
		s.total += f.size
	}
	return nil
}

func digestOfName(name string) (wasmatrix.Digest, bool) {
	var d wasmatrix.Digest
	digits, ok := strings.CutSuffix(name, suffixModule)
	if !ok || len(digits) != 2*len(d) || strings.ToLower(digits) != digits {
		return d, false
	}
	_, err := hex.Decode(d[:], []byte(digits))
	return d, err == nil
}

func (s *Store) path(d wasmatrix.Digest) string {
	return filepath.Join(s.dir, hex.EncodeToString(d[:])+suffixModule)
}

// Has reports whether the module is there, without reading it.
func (s *Store) Has(d wasmatrix.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[d] != nil
}

// List returns all modules, by digest.
func (s *Store) List() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := make([]Entry, 0, len(s.files))
	for d, f := range s.files {
		entries = append(entries, Entry{Digest: d, Size: f.size})
	}
	slices.SortFunc(entries, func(a, b Entry) int { return slices.Compare(a.Digest[:], b.Digest[:]) })
	return entries
}

// Write keeps the bytes of r under their digest. When it returns nil they will
// survive a crash of the machine. A module that is there already is verified
// and r left unread. Bytes with another digest or size than said are E1; a disk
// that fails is E5, and a store that has no room E8. Whenever it fails it leaves
// nothing behind. Errors of r are returned as they are.
func (s *Store) Write(ctx context.Context, d wasmatrix.Digest, size int64, r io.Reader) error {
	if err := s.Verify(ctx, d); wasmatrix.CodeOf(err) != wasmatrix.CodeModuleNotFound {
		return err
	}
	if size < 0 {
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "a module cannot have %d bytes", size)
	}
	// One byte more than said is enough to tell, and none of those after it count.
	w, err := s.Create(size + 1)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.reserve(size); err != nil {
		return err
	}
	if _, err := io.Copy(w, io.LimitReader(&contextReader{ctx, r}, size+1)); err != nil {
		return err
	}
	return w.Commit(d, size)
}

// Open opens a module for reading and keeps it from eviction until it is
// closed. The error is MODULE_NOT_FOUND or E5.
func (s *Store) Open(d wasmatrix.Digest) (*File, error) {
	s.mu.Lock()
	f := s.files[d]
	if f == nil {
		s.mu.Unlock()
		return nil, errNotFound(d)
	}
	f.pins++
	s.recent.MoveToFront(f.elem)
	s.mu.Unlock()

	file, err := os.Open(s.path(d))
	if err == nil {
		if s.max > 0 {
			// Only the order of eviction after the next start depends on it.
			now := time.Now()
			_ = os.Chtimes(s.path(d), now, now)
		}
		return &File{store: s, stored: f, file: file, hash: sha256.New()}, nil
	}
	s.unpin(f)
	if errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("a module's file has disappeared", "module", d)
		s.forget(f)
		return nil, errNotFound(d)
	}
	return nil, storageError("open module "+d.Short(), err)
}

// Read returns a module's bytes. They have been verified: a damaged file is
// moved aside and the module is MODULE_NOT_FOUND from then on.
func (s *Store) Read(d wasmatrix.Digest) ([]byte, error) {
	f, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, f.Size())
	if _, err = io.ReadFull(f, b); err == nil {
		_, err = f.Read(make([]byte, 1)) // the verdict comes with the end
	}
	switch {
	case errors.Is(err, io.EOF):
		return b, nil
	case f.damaged:
		return nil, errNotFound(d)
	default:
		return nil, err
	}
}

// Verify reads a module and reports MODULE_NOT_FOUND where it is missing, or
// was damaged and has now been moved aside.
func (s *Store) Verify(ctx context.Context, d wasmatrix.Digest) error {
	f, err := s.Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = io.Copy(io.Discard, &contextReader{ctx, f}); err != nil && f.damaged {
		return errNotFound(d)
	}
	return err
}

// Remove deletes a module. Readers that have it open may go on. Removing what
// is not there is no error.
func (s *Store) Remove(d wasmatrix.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[d]
	if f == nil {
		return nil
	}
	if err := os.Remove(s.path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storageError("remove module "+d.Short(), err)
	}
	s.drop(f)
	return nil
}

// quarantine moves the file of f aside if it is still the module's.
func (s *Store) quarantine(f *stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[f.digest] != f {
		return
	}
	s.drop(f)
	from, aside := s.path(f.digest), filepath.Join(s.dir, dirDamaged)
	to := filepath.Join(aside, filepath.Base(from))
	s.log.Error("a module's file is damaged; it is moved aside and counts as missing", "module", f.digest, "to", to)
	err := os.MkdirAll(aside, 0o700)
	if err == nil {
		err = os.Rename(from, to)
	}
	if err != nil {
		s.log.Error("cannot move a damaged module aside; removing it", "module", f.digest, "error", err)
		if err := os.Remove(from); err != nil {
			s.log.Error("cannot remove a damaged module", "module", f.digest, "error", err)
		}
	}
}

func (s *Store) unpin(f *stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.pins--
}

func (s *Store) forget(f *stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[f.digest] == f {
		s.drop(f)
	}
}

// insert adds a file that is on the disk. The caller holds mu, or has the store
// to itself, and accounts for its bytes.
func (s *Store) insert(d wasmatrix.Digest, size int64) {
	f := &stored{digest: d, size: size}
	f.elem = s.recent.PushFront(f)
	s.files[d] = f
}

// drop takes a file out of the index. The caller holds mu.
func (s *Store) drop(f *stored) {
	delete(s.files, f.digest)
	s.recent.Remove(f.elem)
	s.total -= f.size
}

// evict makes room for more bytes, and reports whether there is. The caller
// holds mu.
func (s *Store) evict(more int64) bool {
	if s.max <= 0 {
		return true
	}
	for e := s.recent.Back(); e != nil && s.total+more > s.max; {
		f, ok := e.Value.(*stored)
		e = e.Prev()
		if !ok || f.pins > 0 {
			continue
		}
		if err := os.Remove(s.path(f.digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Error("cannot evict a module", "module", f.digest, "error", err)
			continue
		}
		s.log.Debug("evicted a module", "module", f.digest, "size", f.size)
		s.drop(f)
	}
	return s.total+more <= s.max
}

func errNotFound(d wasmatrix.Digest) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeModuleNotFound, "no module %s", d)
}

func storageError(what string, err error) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeStorage, what+": %w", err)
}

// contextReader stops reading when its context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, contextError(c.ctx)
	}
	return c.r.Read(p)
}

// contextError is E9 for a context that is done, and wraps its error.
func contextError(ctx context.Context) *wasmatrix.Error {
	return wasmatrix.Errorf(wasmatrix.CodeTimeout, "module transfer was cut off: %w", ctx.Err()).
		With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
}

// syncDir makes the names in a directory survive a crash of the machine.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
