package wasmatrix_test

import (
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	sdk "github.com/wasmatrix/wasmatrix/sdk/go"
	"github.com/wasmatrix/wasmatrix/sdk/go/httpc"
	"github.com/wasmatrix/wasmatrix/sdk/go/httpc/transport"
	"github.com/wasmatrix/wasmatrix/sdk/go/kv"
	"github.com/wasmatrix/wasmatrix/sdk/go/messaging"
	"github.com/wasmatrix/wasmatrix/sdk/go/messaging/push"
)

// TestWithoutAHost all of it compiles, and says that it does nothing.
func TestWithoutAHost(t *testing.T) {
	store, bus := kv.Open("kv"), messaging.Open("msg")
	for name, f := range map[string]func() error{
		"get":    func() error { _, err := store.Get("k"); return err },
		"set":    func() error { _, err := store.Set("k", nil, kv.TTL(time.Second)); return err },
		"cas":    func() error { _, err := store.CAS("k", 1, []byte("v")); return err },
		"delete": func() error { _, err := store.Delete("k"); return err },
		"update": func() error {
			_, err := store.Update("k", func(kv.Entry) ([]byte, error) { return nil, nil })
			return err
		},
		"list": func() error {
			for _, err := range store.List("") {
				return err
			}
			return nil
		},
		"request":   func() error { _, err := httpc.Open("web").Get("http://host/"); return err },
		"transport": func() error { _, err := transport.New("web").Get("http://host/"); return err }, //nolint:bodyclose // there is none
		"publish":   func() error { return bus.Publish("t", nil) },
		"subscribe": func() error { _, err := bus.Subscribe("t", ""); return err },
		"push":      func() error { _, err := push.Handle("msg", "t", "", nil); return err },
		"output":    func() error { _, err := sdk.Output.WriteString("x"); return err },
	} {
		if err := f(); !errors.Is(err, sdk.ErrUnsupported) || errors.Is(err, sdk.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if in, err := sdk.Input(); in != nil || err != nil || sdk.Version() != 0 {
		t.Errorf("%v, %v, %d", in, err, sdk.Version())
	}
	var _ http.RoundTripper = transport.RoundTripper{}
}

func TestErrors(t *testing.T) {
	err := error(&sdk.Error{Code: sdk.ErrTimeout, Text: "too slow"})
	if err.Error() != "timeout: too slow" || !errors.Is(err, sdk.ErrTimeout) || !sdk.Unknown(err) {
		t.Error(err)
	}
	if err = (&sdk.Error{Code: 99}); err.Error() != "error 99" || sdk.Unknown(err) {
		t.Error(err)
	}
}

func TestHeadersThatWouldBreakOut(t *testing.T) {
	for _, f := range []httpc.Field{{Name: "A", Value: "b\r\nC: d"}, {Name: "A\n", Value: "b"}, {Name: "A:B", Value: "c"}} {
		_, err := httpc.Open("web").Do(&httpc.Request{URL: "http://host/", Header: httpc.Header{f}, Body: strings.NewReader("x")})
		if !errors.Is(err, sdk.ErrInvalid) {
			t.Errorf("%q: %v", f, err)
		}
	}
}

// FuzzParse: what is not a message is told from one, whatever it is.
func FuzzParse(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 'a', '.', 'b', 'x'})
	f.Add([]byte{1, 0, 0, 0, 2, 0, 0, 0, 255, 255, 255, 255, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, handle, err := messaging.Parse(b)
		if err != nil {
			return
		}
		again := binary.LittleEndian.AppendUint32(nil, uint32(handle))
		again = binary.LittleEndian.AppendUint32(again, m.Dropped)
		again = binary.LittleEndian.AppendUint32(again, uint32(len(m.Topic)))
		if string(again)+m.Topic+string(m.Data) != string(b) {
			t.Errorf("%q was read as %+v of %d", b, m, handle)
		}
	})
}
