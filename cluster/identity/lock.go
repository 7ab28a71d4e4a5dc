//go:build unix

package identity

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/wasmatrix/wasmatrix"
)

// lockDir takes an advisory lock that ends with the open file, and thereby
// with the process, however it ends. Go opens files close-on-exec, so a child
// does not inherit it.
func lockDir(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "lock the data directory: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, wasmatrix.Errorf(wasmatrix.CodeConflict, "the data directory %s is in use by another process", filepath.Dir(path))
	}
	return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "lock the data directory: %w", err)
}
