package engine

import "syscall"

const madvNoHugePage = 15

// reserve maps size bytes that are zero and cost nothing until they are
// touched. It returns nil where the system refuses, or for no bytes.
func reserve(size uint64) []byte {
	if size == 0 {
		return nil
	}
	b, err := syscall.Mmap(-1, 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return nil
	}
	// With transparent huge pages a guest that touches one byte would cost 2 MiB.
	// A kernel without them says so, and needs no advice.
	_ = syscall.Madvise(b, madvNoHugePage)
	return b
}

func unreserve(b []byte) {
	if err := syscall.Munmap(b); err != nil {
		panic("engine: unmapping a guest's memory: " + err.Error())
	}
}

// discard makes a part of what was reserved zero again, and gives its pages
// back. It begins at a page of the machine.
func discard(b []byte) {
	// The kernel promises zeros for private memory that no file is behind. It
	// refuses where memory is locked, for one.
	if syscall.Madvise(b, syscall.MADV_DONTNEED) != nil {
		clear(b)
	}
}
