package module

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/wasmatrix/wasmatrix"
)

// Writer takes the bytes of one module on their way to a store's disk. Nobody
// sees them before Commit has succeeded. It is for one goroutine.
type Writer struct {
	store    *Store
	limit    int64
	file     *os.File
	hash     hash.Hash
	written  int64
	reserved int64 // bytes counted in store.total; at least written
	err      error // sticky
	done     bool
}

// Create begins a module of at most limit bytes. The caller closes the Writer,
// also after a Commit. The error is E5.
func (s *Store) Create(limit int64) (*Writer, error) {
	file, err := os.CreateTemp(s.dir, prefixTemp+"*")
	if err != nil {
		return nil, storageError("write a module", err)
	}
	return &Writer{store: s, limit: limit, file: file, hash: sha256.New()}, nil
}

// Write implements [io.Writer]. More bytes than the limit, or than the store
// has room for, are E8; a disk that fails is E5.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.written+int64(len(p)) > w.limit {
		return 0, w.fail(errTooLarge(w.limit))
	}
	if err := w.reserve(w.written + int64(len(p))); err != nil {
		return 0, w.fail(err)
	}
	n, err := w.file.Write(p)
	w.hash.Write(p[:n])
	w.written += int64(n)
	if err != nil {
		return n, w.fail(storageError("write a module", err))
	}
	return n, nil
}

// reserve makes the store have room for total bytes of this module.
func (w *Writer) reserve(total int64) error {
	more := total - w.reserved
	if more <= 0 {
		return nil
	}
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	if !w.store.evict(more) {
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "a module of %d bytes does not fit the module store, which holds at most %d and %d in use",
			total, w.store.max, w.store.total)
	}
	w.store.total += more
	w.reserved = total
	return nil
}

func (w *Writer) release() {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.store.total -= w.reserved
	w.reserved = 0
}

func (w *Writer) fail(err error) error {
	w.err = err
	return err
}

// Commit verifies the bytes, makes them survive a crash of the machine, and
// adds the module to the store. Another digest or size is E1; a size below 0
// is not compared. It may be there already; that is no error. A disk that fails
// is E5, and then the module is not in the store.
func (w *Writer) Commit(d wasmatrix.Digest, size int64) error {
	switch {
	case w.err != nil:
		return w.err
	case w.done:
		return w.fail(fs.ErrClosed)
	case size >= 0 && w.written != size:
		return w.fail(wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "module has %d bytes and not %d as was said", w.written, size))
	}
	if got := wasmatrix.Digest(w.hash.Sum(nil)); got != d {
		return w.fail(wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "module has digest %s and not %s as was said", got, d))
	}
	if err := errors.Join(w.file.Sync(), w.file.Close()); err != nil {
		return w.fail(storageError("write module "+d.Short(), err))
	}
	if err := w.publish(d); err != nil {
		return w.fail(storageError("write module "+d.Short(), err))
	}
	return nil
}

// publish gives the file its name and indexes it. Holding the lock through the
// rename keeps a Remove or an eviction from falling between the two.
func (w *Writer) publish(d wasmatrix.Digest) error {
	s := w.store
	s.mu.Lock()
	defer s.mu.Unlock()
	// A file that is there already gives way: it may be damaged, this one is not.
	if err := os.Rename(w.file.Name(), s.path(d)); err != nil {
		return err
	}
	if err := syncDir(s.dir); err != nil {
		if old := s.files[d]; old != nil {
			s.drop(old)
		}
		return errors.Join(err, os.Remove(s.path(d)))
	}
	w.done = true
	if old := s.files[d]; old != nil {
		s.drop(old)
	}
	s.insert(d, w.written)
	s.total -= w.reserved - w.written
	w.reserved = 0
	return nil
}

// Close drops the bytes unless they were committed. Closing twice does nothing.
func (w *Writer) Close() {
	if w.done {
		return
	}
	w.done = true
	w.release()
	_ = w.file.Close() // closed already, or of no more interest
	if err := os.Remove(w.file.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.store.log.Error("cannot remove a module that was not finished", "file", filepath.Base(w.file.Name()), "error", err)
	}
}

// Err returns why a Write or Commit failed, nil while none has. It tells a
// failure of this side from one of whoever sends the bytes.
func (w *Writer) Err() error { return w.err }
