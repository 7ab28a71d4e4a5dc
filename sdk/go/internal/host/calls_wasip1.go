package host

import "unsafe"

// Names and contents are handed over as strings, which Go passes as an address
// and a length.

//go:wasmimport wasmatrix input_len
//go:noescape
func InputLen() int32

//go:wasmimport wasmatrix input_read
//go:noescape
func InputRead(offset uint32, to unsafe.Pointer, size uint32) int32

//go:wasmimport wasmatrix output_write
//go:noescape
func OutputWrite(from unsafe.Pointer, size uint32) int32

//go:wasmimport wasmatrix abi_version
//go:noescape
func Version() int32

//go:wasmimport wasmatrix result_read
//go:noescape
func ResultRead(offset uint32, to unsafe.Pointer, size uint32) int32

//go:wasmimport wasmatrix error_read
//go:noescape
func ErrorRead(to unsafe.Pointer, size uint32) int32

//go:wasmimport wasmatrix kv_get
//go:noescape
func KVGet(id, key string, buf unsafe.Pointer, size uint32, revision *uint64) int32

//go:wasmimport wasmatrix kv_set
//go:noescape
func KVSet(id, key string, value unsafe.Pointer, size uint32, ttl int64, revision *uint64) int32

//go:wasmimport wasmatrix kv_cas
//go:noescape
func KVCAS(id, key string, expect uint64, value unsafe.Pointer, size uint32, ttl int64, revision *uint64) int32

//go:wasmimport wasmatrix kv_delete
//go:noescape
func KVDelete(id, key string) int32

//go:wasmimport wasmatrix kv_list
//go:noescape
func KVList(id, prefix, after string, limit uint32, buf unsafe.Pointer, size uint32) int32

//go:wasmimport wasmatrix http_open
//go:noescape
func HTTPOpen(id, method, url, header string, timeout int64) int32

//go:wasmimport wasmatrix http_write
//go:noescape
func HTTPWrite(handle int32, from unsafe.Pointer, size uint32) int32

//go:wasmimport wasmatrix http_send
//go:noescape
func HTTPSend(handle int32) int32

//go:wasmimport wasmatrix http_header
//go:noescape
func HTTPHeader(handle int32, buf unsafe.Pointer, size uint32) int32

//go:wasmimport wasmatrix http_read
//go:noescape
func HTTPRead(handle int32, buf unsafe.Pointer, size uint32) int32

//go:wasmimport wasmatrix http_close
//go:noescape
func HTTPClose(handle int32) int32

//go:wasmimport wasmatrix msg_publish
//go:noescape
func MsgPublish(id, topic string, data unsafe.Pointer, size uint32) int32

//go:wasmimport wasmatrix msg_subscribe
//go:noescape
func MsgSubscribe(id, topic, group string, mode uint32) int32

//go:wasmimport wasmatrix msg_receive
//go:noescape
func MsgReceive(handle int32, timeout int64, buf unsafe.Pointer, size uint32) int32

//go:wasmimport wasmatrix msg_unsubscribe
//go:noescape
func MsgUnsubscribe(handle int32) int32
