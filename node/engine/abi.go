package engine

import (
	"context"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
)

// hostFunction is one function of package abi. All return an i32.
type hostFunction struct {
	name   string
	params string // "i" is an i32, "l" an i64
	// do returns the result, or the error that the guest is answered with.
	do func(x *execution, a *args) (int32, error)
}

var hostFunctions = []hostFunction{
	{abi.InputLen, "", inputLen},
	{abi.InputRead, "iii", inputRead},
	{abi.OutputWrite, "ii", outputWrite},
	{abi.VersionFunc, "", func(*execution, *args) (int32, error) { return abi.Version, nil }},
	{abi.ResultRead, "iii", resultRead},
	{abi.ErrorRead, "ii", errorRead},
	{abi.KVGet, "iiiiiii", kvGet},
	{abi.KVSet, "iiiiiili", kvSet},
	{abi.KVCAS, "iiiiliili", kvCAS},
	{abi.KVDelete, "iiii", kvDelete},
	{abi.KVList, "iiiiiiiii", kvList},
	{abi.HTTPOpen, "iiiiiiiil", httpOpen},
	{abi.HTTPWrite, "iii", httpWrite},
	{abi.HTTPSend, "i", httpSend},
	{abi.HTTPHeader, "iii", httpHeader},
	{abi.HTTPRead, "iii", httpRead},
	{abi.HTTPClose, "i", httpClose},
	{abi.MsgPublish, "iiiiii", msgPublish},
	{abi.MsgSubscribe, "iiiiiii", msgSubscribe},
	{abi.MsgReceive, "ilii", msgReceive},
	{abi.MsgUnsubscribe, "i", msgUnsubscribe},
}

// abiHost is what package abi describes.
func (e *Engine) abiHost() wazero.HostModuleBuilder {
	b := e.runtime.NewHostModuleBuilder(abi.Module)
	for i := range hostFunctions {
		f := &hostFunctions[i]
		params := make([]api.ValueType, len(f.params))
		for i := range params {
			if params[i] = i32; f.params[i] == 'l' {
				params[i] = i64
			}
		}
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(f.call), params, []api.ValueType{i32}).Export(f.name)
	}
	return b
}

// call is what wazero calls. It is a safe point: a guest that is refused again and
// again, or has much copied, gives up its core nowhere else.
func (f *hostFunction) call(ctx context.Context, mod api.Module, stack []uint64) {
	x := executionOf(ctx)
	x.busy()
	n, err := f.do(x, &args{mod: mod, mem: memoryOf(mod), p: stack})
	if err != nil {
		n = x.refuse(err)
	}
	stack[0] = api.EncodeI32(n)
}

// refuse keeps what there is to say of an error, and returns its number as the
// guest gets it.
func (x *execution) refuse(err error) int32 {
	code, text := explain(err)
	x.hold().failure = wasmatrix.BoundText(text, abi.MaxErrorText)
	return -int32(code)
}

func inputLen(x *execution, _ *args) (int32, error) {
	if x.call == nil {
		return 0, nil
	}
	return int32(len(x.call.Data)), nil
}

func inputRead(x *execution, a *args) (int32, error) {
	offset, ptr, n := a.u32(), a.u32(), a.u32()
	if x.call == nil || !x.call.Bytes {
		return 0, errNoCall
	}
	return a.copyTo(x.call.Data, offset, ptr, n)
}

func outputWrite(x *execution, a *args) (int32, error) {
	if x.call == nil || !x.call.Bytes {
		return 0, errNoCall
	}
	b := a.bytes(wasmatrix.MaxInvokeData-len(x.call.output), errTooLarge)
	if a.err != nil {
		return 0, a.err
	}
	x.call.output = append(x.call.output, b...)
	return 0, nil
}

func resultRead(x *execution, a *args) (int32, error) {
	offset, ptr, n := a.u32(), a.u32(), a.u32()
	var result []byte
	if x.held != nil {
		result = x.held.result
	}
	return a.copyTo(result, offset, ptr, n)
}

func errorRead(x *execution, a *args) (int32, error) {
	buf := a.buffer()
	if a.err != nil {
		return 0, a.err
	}
	if x.held == nil {
		return 0, nil
	}
	copy(buf, x.held.failure)
	return int32(len(x.held.failure)), nil
}
