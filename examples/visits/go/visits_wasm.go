package main

import (
	"errors"
	"strconv"

	wasmatrix "github.com/wasmatrix/wasmatrix/sdk/go"
	"github.com/wasmatrix/wasmatrix/sdk/go/kv"
)

var store = kv.Open("kv")

// visit adds one by compare-and-swap: who is overtaken tries again.
func visit() (string, error) {
	key, err := key()
	if err != nil {
		return "", err
	}
	e, err := store.Update(key, func(old kv.Entry) ([]byte, error) {
		n, err := number(old)
		return strconv.AppendUint(nil, n+1, 10), err
	})
	return string(e.Value), err
}

func count() (string, error) {
	key, err := key()
	if err != nil {
		return "", err
	}
	e, err := store.Get(key)
	if err != nil && !errors.Is(err, wasmatrix.ErrNotFound) {
		return "", err
	}
	n, err := number(e)
	return strconv.FormatUint(n, 10), err
}

func key() (string, error) {
	in, err := wasmatrix.Input()
	if len(in) == 0 {
		return "visits", err
	}
	return string(in), err
}

// number is 0 of an entry that there is none of.
func number(e kv.Entry) (uint64, error) {
	if e.Revision == 0 {
		return 0, nil
	}
	return strconv.ParseUint(string(e.Value), 10, 64)
}

// The statuses of exported functions.
const (
	statusOK      = 0
	statusFailed  = 1 // nothing was counted; the output says why
	statusUnknown = 2 // it may have been counted, or not
)

func answer(f func() (string, error)) int32 {
	out, err := f()
	status := int32(statusOK)
	if err != nil {
		out, status = err.Error(), statusFailed
		if wasmatrix.Unknown(err) {
			status = statusUnknown
		}
	}
	if _, err := wasmatrix.Output.WriteString(out); err != nil {
		return statusUnknown
	}
	return status
}

//go:wasmexport visit
func visitExport() int32 { return answer(visit) }

//go:wasmexport count
func countExport() int32 { return answer(count) }
