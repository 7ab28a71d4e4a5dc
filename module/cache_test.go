package module_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/module"
)

func TestCacheFetchesOnceForAll(t *testing.T) {
	b, d := blob(1, 100_000)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		release := make(chan struct{})
		c := &module.Cache{Store: openStore(t, dir, 0), Fetch: func(_ context.Context, _ wasmatrix.Digest, w io.Writer) error {
			calls.Add(1)
			<-release
			_, err := w.Write(b)
			return err
		}}
		for range 10 {
			go func() {
				if got, err := c.Module(t.Context(), d); err != nil || !bytes.Equal(got, b) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			}()
		}
		synctest.Wait() // all ten wait for one fetch
		close(release)
		synctest.Wait()
		if n := calls.Load(); n != 1 {
			t.Errorf("fetched %d times", n)
		}
		if _, err := c.Module(t.Context(), d); err != nil || calls.Load() != 1 {
			t.Errorf("fetched again: %v", err)
		}
	})
}

func TestCacheWaitersSurviveTheOneWhoFetches(t *testing.T) {
	b, d := blob(1, 1000)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		c := &module.Cache{Store: openStore(t, dir, 0), Fetch: func(ctx context.Context, _ wasmatrix.Digest, w io.Writer) error {
			if calls.Add(1) == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			_, err := w.Write(b)
			return err
		}}
		first, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Module(first, d); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		})
		synctest.Wait()
		for range 3 {
			wg.Go(func() {
				if got, err := c.Module(t.Context(), d); err != nil || !bytes.Equal(got, b) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
		impatient, leave := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := c.Module(impatient, d); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled while waiting: %v", err)
			}
		})
		synctest.Wait()
		leave()
		synctest.Wait()
		cancel()
		wg.Wait()
		if n := calls.Load(); n != 2 {
			t.Errorf("fetched %d times, want 2", n)
		}
	})
}

func TestCacheTakesNothingButTheModule(t *testing.T) {
	b, d := blob(1, 1000)
	other, _ := blob(2, 1000)
	broken := wasmatrix.Errorf(wasmatrix.CodeCommunication, "broke off")
	for what, c := range map[string]struct {
		answers []func(io.Writer) error
		want    wasmatrix.Code
		calls   int
	}{
		"another module, then the module": {[]func(io.Writer) error{give(other, nil), give(b, nil)}, "", 2},
		"half of it, then the module":     {[]func(io.Writer) error{give(b[:500], broken), give(b, nil)}, "", 2},
		"always another":                  {[]func(io.Writer) error{give(other, nil)}, wasmatrix.CodeCommunication, 3},
		"nobody has it":                   {[]func(io.Writer) error{give(nil, wasmatrix.Errorf(wasmatrix.CodeModuleNotFound, "none"))}, wasmatrix.CodeModuleNotFound, 1},
		"too large to keep":               {[]func(io.Writer) error{give(make([]byte, 20_000), nil)}, wasmatrix.CodeResourceExhausted, 1},
	} {
		dir := t.TempDir()
		calls := 0
		cache := &module.Cache{Store: openStore(t, dir, 10_000), Fetch: func(_ context.Context, _ wasmatrix.Digest, w io.Writer) error {
			calls++
			return c.answers[min(calls, len(c.answers))-1](w)
		}}
		got, err := cache.Module(t.Context(), d)
		if wasmatrix.CodeOf(err) != c.want || calls != c.calls || c.want == "" && !bytes.Equal(got, b) {
			t.Errorf("%s: %d bytes, %v after %d calls", what, len(got), err, calls)
		}
		if left := files(t, dir); c.want != "" && len(left) > 0 {
			t.Errorf("%s left %q", what, left)
		}
	}
}

func give(b []byte, err error) func(io.Writer) error {
	return func(w io.Writer) error {
		if _, err := w.Write(b); err != nil {
			return err
		}
		return err
	}
}

func TestCacheFetchesAnewWhatIsDamaged(t *testing.T) {
	b, d := blob(1, 1000)
	dir := t.TempDir()
	calls := 0
	c := &module.Cache{Store: openStore(t, dir, 0), Fetch: func(_ context.Context, _ wasmatrix.Digest, w io.Writer) error {
		calls++
		_, err := w.Write(b)
		return err
	}}
	for range 2 {
		if got, err := c.Module(t.Context(), d); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if err := os.WriteFile(filePath(dir, d), b[1:], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 2 {
		t.Errorf("fetched %d times", calls)
	}
}
