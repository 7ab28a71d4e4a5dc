package push

import (
	wasmatrix "github.com/wasmatrix/wasmatrix/sdk/go"
	"github.com/wasmatrix/wasmatrix/sdk/go/messaging"
)

// onMessage calls the handler of a message that was pushed. What it returns is for
// nobody.
//
//go:wasmexport wasmatrix_on_message
func onMessage() int32 {
	in, err := wasmatrix.Input()
	if err != nil {
		return 1
	}
	m, handle, err := messaging.Parse(in)
	if err != nil {
		return 1
	}
	mu.Lock()
	h := handlers[handle]
	mu.Unlock()
	if h == nil {
		return 1
	}
	h(m)
	return 0
}
