//go:build !wasip1

//nolint:revive // documented where they do something
package host

import "unsafe"

// Elsewhere there is no host: everything is ErrUnsupported.

func InputLen() int32                                 { return 0 }
func InputRead(uint32, unsafe.Pointer, uint32) int32  { return -int32(ErrUnsupported) }
func OutputWrite(unsafe.Pointer, uint32) int32        { return -int32(ErrUnsupported) }
func Version() int32                                  { return 0 }
func ResultRead(uint32, unsafe.Pointer, uint32) int32 { return -int32(ErrUnsupported) }
func ErrorRead(unsafe.Pointer, uint32) int32          { return 0 }
func KVDelete(_, _ string) int32                      { return -int32(ErrUnsupported) }
func HTTPWrite(int32, unsafe.Pointer, uint32) int32   { return -int32(ErrUnsupported) }
func HTTPSend(int32) int32                            { return -int32(ErrUnsupported) }
func HTTPHeader(int32, unsafe.Pointer, uint32) int32  { return -int32(ErrUnsupported) }
func HTTPRead(int32, unsafe.Pointer, uint32) int32    { return -int32(ErrUnsupported) }
func HTTPClose(int32) int32                           { return -int32(ErrUnsupported) }
func MsgSubscribe(_, _, _ string, _ uint32) int32     { return -int32(ErrUnsupported) }
func MsgUnsubscribe(int32) int32                      { return -int32(ErrUnsupported) }
func HTTPOpen(_, _, _, _ string, _ int64) int32       { return -int32(ErrUnsupported) }
func MsgPublish(_, _ string, _ unsafe.Pointer, _ uint32) int32 {
	return -int32(ErrUnsupported)
}

func MsgReceive(int32, int64, unsafe.Pointer, uint32) int32 { return -int32(ErrUnsupported) }

func KVGet(_, _ string, _ unsafe.Pointer, _ uint32, _ *uint64) int32 {
	return -int32(ErrUnsupported)
}

func KVSet(_, _ string, _ unsafe.Pointer, _ uint32, _ int64, _ *uint64) int32 {
	return -int32(ErrUnsupported)
}

func KVCAS(_, _ string, _ uint64, _ unsafe.Pointer, _ uint32, _ int64, _ *uint64) int32 {
	return -int32(ErrUnsupported)
}

func KVList(_, _, _ string, _ uint32, _ unsafe.Pointer, _ uint32) int32 {
	return -int32(ErrUnsupported)
}
