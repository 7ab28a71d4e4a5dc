//go:build !linux

package module_test

// Only Linux lets a test mount a disk of its own.
const envFullDisk = "WASMATRIX_TEST_FULL_DISK"

func onFullDisk(string) int { return 1 }
