package main

import (
	"bytes"
	"unsafe"
)

// What the host provides; see docs/abi.md.

//go:wasmimport wasmatrix input_len
func inputLen() int32

//go:wasmimport wasmatrix input_read
//go:noescape
func inputRead(offset int32, to *byte, size int32) int32

//go:wasmimport wasmatrix output_write
//go:noescape
func outputWrite(from *byte, size int32) int32

// The statuses of convertExport.
const (
	statusOK     = 0
	statusBadCSV = 1 // the output says why
	statusHost   = 2 // the host did not give the input, or take the output
)

//go:wasmexport convert
func convertExport() int32 {
	in := make([]byte, inputLen())
	if inputRead(0, unsafe.SliceData(in), int32(len(in))) != int32(len(in)) {
		return statusHost
	}
	var out bytes.Buffer
	status := int32(statusOK)
	if err := convert(&out, bytes.NewReader(in)); err != nil {
		status = statusBadCSV
		out.Reset()
		out.WriteString(err.Error() + "\n")
	}
	if outputWrite(unsafe.SliceData(out.Bytes()), int32(out.Len())) < 0 {
		return statusHost
	}
	return status
}
