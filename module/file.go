package module

import (
	"errors"
	"hash"
	"io"
	"os"
	"sync"

	"github.com/wasmatrix/wasmatrix"
)

// File is a module that is open for reading. It is for one goroutine.
//
// It verifies as it is read: where the bytes turn out not to have the module's
// digest, the Read that reaches their end fails with E5 instead of [io.EOF], and
// the store moves the file aside.
type File struct {
	store   *Store
	stored  *stored
	file    *os.File
	hash    hash.Hash
	read    int64
	err     error // sticky
	damaged bool
	closed  sync.Once
}

// Size returns the module's size in bytes.
func (f *File) Size() int64 { return f.stored.size }

// Digest returns the module's digest.
func (f *File) Digest() wasmatrix.Digest { return f.stored.digest }

// Read implements [io.Reader].
func (f *File) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.file.Read(p)
	f.hash.Write(p[:n])
	f.read += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		f.err = f.verdict()
	case err != nil:
		f.err = storageError("read module "+f.stored.digest.Short(), err)
	case f.read > f.stored.size:
		n, f.err = 0, f.verdict()
	}
	return n, f.err
}

// verdict is io.EOF if what was read is the module.
func (f *File) verdict() error {
	if wasmatrix.Digest(f.hash.Sum(nil)) == f.stored.digest {
		return io.EOF
	}
	f.damaged = true
	f.store.quarantine(f.stored)
	return wasmatrix.Errorf(wasmatrix.CodeStorage, "the file of module %s is damaged", f.stored.digest)
}

// Close lets the module be evicted again. Closing twice is no error.
func (f *File) Close() error {
	var err error
	f.closed.Do(func() {
		f.store.unpin(f.stored)
		err = f.file.Close()
	})
	return err
}
