//go:build wasip1

package main

import (
	"encoding/binary"
	"unsafe"
)

// What the host provides, plainly: a test of the host is not to rely on a library
// that may make up for its faults. See docs/abi.md.

//go:wasmimport wasmatrix input_len
func inputLen() int32

//go:wasmimport wasmatrix input_read
//go:noescape
func inputRead(offset int32, to *byte, size int32) int32

//go:wasmimport wasmatrix output_write
//go:noescape
func outputWrite(from *byte, size int32) int32

//go:wasmimport wasmatrix error_read
//go:noescape
func errorRead(to *byte, size int32) int32

//go:wasmimport wasmatrix result_read
//go:noescape
func resultRead(offset int32, to *byte, size int32) int32

//go:wasmimport wasmatrix kv_get
//go:noescape
func kvGet(capability *byte, capabilityLen int32, key *byte, keyLen int32, to *byte, size int32, revision *uint64) int32

//go:wasmimport wasmatrix kv_set
//go:noescape
func kvSet(capability *byte, capabilityLen int32, key *byte, keyLen int32, value *byte, valueLen int32, ttl int64, revision *uint64) int32

//go:wasmimport wasmatrix kv_cas
//go:noescape
func kvCAS(capability *byte, capabilityLen int32, key *byte, keyLen int32, expect int64, value *byte, valueLen int32, ttl int64, revision *uint64) int32

//go:wasmimport wasmatrix kv_delete
//go:noescape
func kvDelete(capability *byte, capabilityLen int32, key *byte, keyLen int32) int32

//go:wasmimport wasmatrix kv_list
//go:noescape
func kvList(capability *byte, capabilityLen int32, prefix *byte, prefixLen int32, after *byte, afterLen int32, limit int32, to *byte, size int32) int32

//go:wasmimport wasmatrix http_open
//go:noescape
func httpOpen(capability *byte, capabilityLen int32, method *byte, methodLen int32, url *byte, urlLen int32, header *byte, headerLen int32, timeout int64) int32

//go:wasmimport wasmatrix http_send
func httpSend(handle int32) int32

//go:wasmimport wasmatrix http_read
//go:noescape
func httpRead(handle int32, to *byte, size int32) int32

//go:wasmimport wasmatrix http_close
func httpClose(handle int32) int32

//go:wasmimport wasmatrix msg_publish
//go:noescape
func msgPublish(capability *byte, capabilityLen int32, topic *byte, topicLen int32, data *byte, dataLen int32) int32

//go:wasmimport wasmatrix msg_subscribe
//go:noescape
func msgSubscribe(capability *byte, capabilityLen int32, topic *byte, topicLen int32, group *byte, groupLen int32, mode int32) int32

//go:wasmimport wasmatrix msg_receive
//go:noescape
func msgReceive(handle int32, timeout int64, to *byte, size int32) int32

//go:wasmimport wasmatrix msg_unsubscribe
func msgUnsubscribe(handle int32) int32

func ptr(s string) (*byte, int32) { return unsafe.StringData(s), int32(len(s)) }

func span(b []byte) (*byte, int32) { return unsafe.SliceData(b), int32(len(b)) }

// lastError is what the host says of the call that failed.
func lastError() string {
	b := make([]byte, 512)
	n := errorRead(span(b))
	return string(b[:max(0, min(int(n), len(b)))])
}

// result is what a call has given, of which the buffer may have only a part.
func result(n int32, buf []byte) []byte {
	if int(n) <= len(buf) {
		return buf[:n]
	}
	whole := append(make([]byte, 0, n), buf...)
	for len(whole) < int(n) {
		part := make([]byte, int(n)-len(whole))
		got := resultRead(int32(len(whole)), unsafe.SliceData(part), int32(len(part)))
		if got <= 0 {
			panic("the rest of a result is missing")
		}
		whole = append(whole, part[:got]...)
	}
	return whole
}

func keysOf(page []byte) (keys []string, more bool) {
	count := binary.LittleEndian.Uint32(page)
	more = binary.LittleEndian.Uint32(page[4:]) != 0
	page = page[8:]
	for range count {
		n := binary.LittleEndian.Uint32(page)
		keys = append(keys, string(page[4:4+n]))
		page = page[4+n:]
	}
	return keys, more
}

func messageOf(m []byte) (topic, data string, dropped uint32) {
	dropped = binary.LittleEndian.Uint32(m[4:])
	n := binary.LittleEndian.Uint32(m[8:])
	return string(m[12 : 12+n]), string(m[12+n:]), dropped
}
