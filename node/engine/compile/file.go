package compile

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/wasmatrix/wasmatrix"
)

var errDamaged = errors.New("its content is not what was written")

func write(dir, name string, b []byte) (file, error) {
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		return file{}, wasmatrix.Errorf(wasmatrix.CodeStorage, "%w", err)
	}
	return file{Name: name, Bytes: int64(len(b)), SHA256: sha256.Sum256(b)}, nil
}

// describe reads a file and returns what it holds.
func describe(path string) (file, error) {
	f, err := os.Open(path)
	if err != nil {
		return file{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	d := file{Name: filepath.Base(path), Bytes: n}
	h.Sum(d.SHA256[:0])
	return d, err
}

// verify reads f in dir and compares it with what it should hold.
func (f *file) verify(dir string) error {
	got, err := describe(filepath.Join(dir, f.Name))
	if err == nil && (got.Bytes != f.Bytes || got.SHA256 != f.SHA256) {
		err = fmt.Errorf("%s: %w", f.Name, errDamaged)
	}
	return err
}

// read returns the verified content of f in dir.
func (f *file) read(dir string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(dir, f.Name))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); !bytes.Equal(sum[:], f.SHA256[:]) {
		return nil, fmt.Errorf("%s: %w", f.Name, errDamaged)
	}
	return b, nil
}
