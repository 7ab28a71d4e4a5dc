package module_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/module"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envFullDisk); dir != "" {
		os.Exit(onFullDisk(dir))
	}
	goleak.VerifyTestMain(m)
}

func openStore(t testing.TB, dir string, most int64) *module.Store {
	t.Helper()
	s, err := module.OpenStore(module.Config{Dir: dir, MaxBytes: most})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// blob returns size bytes that differ with i, and their digest.
func blob(i, size int) ([]byte, wasmatrix.Digest) {
	b := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, size/2+1)[:size]
	return b, wasmatrix.DigestOf(b)
}

func mustWrite(t testing.TB, s *module.Store, b []byte) wasmatrix.Digest {
	t.Helper()
	d := wasmatrix.DigestOf(b)
	if err := s.Write(t.Context(), d, int64(len(b)), bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	return d
}

// files lists all files below dir but those moved aside.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

func filePath(dir string, d wasmatrix.Digest) string {
	return filepath.Join(dir, strings.TrimPrefix(d.String(), "sha256:")+".wasm")
}

func TestStoreKeepsModulesThroughReopening(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "modules")
	s := openStore(t, dir, 0)
	a, da := blob(1, 100_000)
	b, db := blob(2, 0)
	mustWrite(t, s, a)
	mustWrite(t, s, b)
	mustWrite(t, s, a) // again is fine
	for _, s := range []*module.Store{s, openStore(t, dir, 0)} {
		if got, err := s.Read(da); err != nil || !bytes.Equal(got, a) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if got, err := s.Read(db); err != nil || len(got) != 0 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if l := s.List(); len(l) != 2 || !s.Has(da) || !s.Has(db) || l[0].Size+l[1].Size != int64(len(a)) {
			t.Errorf("list %v", l)
		}
	}
	if err := s.Remove(da); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(da); err != nil {
		t.Errorf("removing twice: %v", err)
	}
	if _, err := s.Open(da); wasmatrix.CodeOf(err) != wasmatrix.CodeModuleNotFound {
		t.Errorf("open of a removed module: %v", err)
	}
	if s.Has(da) || openStore(t, dir, 0).Has(da) {
		t.Error("it is still there")
	}
}

func TestStoreRefusesWhatIsNotTheModule(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, 0)
	b, d := blob(1, 1000)
	_, other := blob(2, 1000)
	dropped := errors.New("line dropped")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for what, c := range map[string]struct {
		ctx  context.Context
		d    wasmatrix.Digest
		size int64
		r    io.Reader
		want wasmatrix.Code
	}{
		"digest":      {t.Context(), other, 1000, bytes.NewReader(b), wasmatrix.CodeInvalidRequest},
		"fewer bytes": {t.Context(), d, 1001, bytes.NewReader(b), wasmatrix.CodeInvalidRequest},
		"more bytes":  {t.Context(), d, 999, bytes.NewReader(b), wasmatrix.CodeInvalidRequest},
		"no bytes":    {t.Context(), d, -1, bytes.NewReader(b), wasmatrix.CodeInvalidRequest},
		"cancelled":   {cancelled, d, 1000, bytes.NewReader(b), wasmatrix.CodeTimeout},
		"broken off":  {t.Context(), d, 1000, io.MultiReader(bytes.NewReader(b[:500]), iotest.ErrReader(dropped)), wasmatrix.CodeInternal},
	} {
		err := s.Write(c.ctx, c.d, c.size, c.r)
		if wasmatrix.CodeOf(err) != c.want {
			t.Errorf("%s: %v, want %s", what, err, c.want)
		}
		if what == "broken off" && !errors.Is(err, dropped) {
			t.Errorf("%s: %v", what, err)
		}
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("%s left %q", what, left)
		}
	}
}

func TestStoreTreatsDamageAsAbsence(t *testing.T) {
	damages := map[string]func(b []byte) []byte{
		"a bit":     func(b []byte) []byte { b[700] ^= 4; return b },
		"shorter":   func(b []byte) []byte { return b[:len(b)-1] },
		"longer":    func(b []byte) []byte { return append(b, 0) },
		"truncated": func([]byte) []byte { return nil },
	}
	uses := map[string]func(*module.Store, wasmatrix.Digest) error{
		"Read":   func(s *module.Store, d wasmatrix.Digest) error { _, err := s.Read(d); return err },
		"Verify": func(s *module.Store, d wasmatrix.Digest) error { return s.Verify(t.Context(), d) },
	}
	for what, damage := range damages {
		for use, try := range uses {
			for _, reopened := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/reopened=%v", what, use, reopened), func(t *testing.T) {
					dir := t.TempDir()
					s := openStore(t, dir, 0)
					b, d := blob(1, 1000)
					mustWrite(t, s, b)
					if err := os.WriteFile(filePath(dir, d), damage(bytes.Clone(b)), 0o600); err != nil {
						t.Fatal(err)
					}
					if reopened {
						s = openStore(t, dir, 0)
					}
					if err := try(s, d); wasmatrix.CodeOf(err) != wasmatrix.CodeModuleNotFound {
						t.Fatalf("%v", err)
					}
					if s.Has(d) || len(files(t, dir)) != 0 {
						t.Errorf("has %v, files %q", s.Has(d), files(t, dir))
					}
					if aside := files(t, filepath.Join(dir, "damaged")); len(aside) != 1 {
						t.Errorf("moved aside: %q", aside)
					}
					mustWrite(t, s, b)
					if err := try(s, d); err != nil {
						t.Errorf("after writing it anew: %v", err)
					}
				})
			}
		}
	}
}

// A write of what is there must not vouch for a file that is damaged.
func TestStoreWriteHealsDamage(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, 0)
	b, d := blob(1, 1000)
	mustWrite(t, s, b)
	if err := os.WriteFile(filePath(dir, d), b[:999], 0o600); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, b)
	if got, err := os.ReadFile(filePath(dir, d)); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%d bytes on the disk, %v", len(got), err)
	}
}

func TestOpenFileTellsOfDamageAtItsEnd(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, 0)
	b, d := blob(1, 1000)
	mustWrite(t, s, b)
	if err := os.WriteFile(filePath(dir, d), bytes.Repeat([]byte{'x'}, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := s.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(io.Discard, f); wasmatrix.CodeOf(err) != wasmatrix.CodeStorage {
		t.Errorf("reading a damaged file to its end: %v", err)
	}
	if s.Has(d) {
		t.Error("a damaged file counts as present")
	}
}

func TestStoreNoticesThatAFileDisappeared(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, 0)
	b, d := blob(1, 10)
	mustWrite(t, s, b)
	if err := os.Remove(filePath(dir, d)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(d); wasmatrix.CodeOf(err) != wasmatrix.CodeModuleNotFound || s.Has(d) {
		t.Errorf("%v, has %v", err, s.Has(d))
	}
	mustWrite(t, s, b)
}

func TestStoreCleansUpWhatACrashLeft(t *testing.T) {
	dir := t.TempDir()
	b, d := blob(1, 10)
	mustWrite(t, openStore(t, dir, 0), b)
	for _, name := range []string{"write-123", "write-", "README", "abc.wasm"} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := openStore(t, dir, 0)
	if l := s.List(); len(l) != 1 || l[0].Digest != d {
		t.Errorf("list %v", l)
	}
	if left := files(t, dir); len(left) != 3 || slices.Contains(left, "write-123") {
		t.Errorf("left %q", left) // what is not the store's is not touched
	}
}

func TestStoreReportsADiskThatFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "modules")
	s := openStore(t, dir, 0)
	b, d := blob(1, 10)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), d, 10, bytes.NewReader(b)); wasmatrix.CodeOf(err) != wasmatrix.CodeStorage {
		t.Errorf("write: %v", err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := module.OpenStore(module.Config{Dir: dir}); wasmatrix.CodeOf(err) != wasmatrix.CodeStorage {
		t.Errorf("open: %v", err)
	}
}

func TestStoreGivesUpTheLeastRecentlyUsed(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, 3000)
	a, da := blob(1, 1000)
	b, db := blob(2, 1000)
	c, dc := blob(3, 1000)
	e, de := blob(4, 1000)
	mustWrite(t, s, a)
	mustWrite(t, s, b)
	mustWrite(t, s, c)
	if _, err := s.Read(da); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, e)
	if !s.Has(da) || s.Has(db) || !s.Has(dc) || !s.Has(de) {
		t.Errorf("kept %v", s.List())
	}
	if n := len(files(t, dir)); n != 3 {
		t.Errorf("%d files", n)
	}
	// The order survives the process, and a smaller bound is met at once.
	if _, err := s.Read(dc); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, 1500)
	if l := s.List(); len(l) != 1 || l[0].Digest != dc {
		t.Errorf("kept %v, want %v alone", l, dc)
	}
	big, d := blob(5, 1501)
	if err := s.Write(t.Context(), d, 1501, bytes.NewReader(big)); wasmatrix.CodeOf(err) != wasmatrix.CodeResourceExhausted {
		t.Errorf("more than the store may hold: %v", err)
	}
	if left := files(t, dir); len(left) > 1 {
		t.Errorf("left %q", left)
	}
}

func TestStoreKeepsWhatIsOpen(t *testing.T) {
	s := openStore(t, t.TempDir(), 1000)
	a, da := blob(1, 600)
	b, db := blob(2, 600)
	mustWrite(t, s, a)
	f, err := s.Open(da)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), db, 600, bytes.NewReader(b)); wasmatrix.CodeOf(err) != wasmatrix.CodeResourceExhausted {
		t.Errorf("room was made from an open module: %v", err)
	}
	got, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(got, a) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	mustWrite(t, s, b)
	if s.Has(da) || !s.Has(db) {
		t.Errorf("kept %v", s.List())
	}
}

// TestStoreStaysWithinItsBound drives one store with random uses and holds it
// against a model and against the disk.
func TestStoreStaysWithinItsBound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		const most = 10_000
		s := openStore(t, dir, most)
		contents := func() []byte {
			b, _ := blob(rapid.IntRange(0, 20).Draw(rt, "module"), rapid.SampledFrom([]int{0, 10, 2500, 5000, most}).Draw(rt, "size"))
			return b
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				b := contents()
				if err := s.Write(t.Context(), wasmatrix.DigestOf(b), int64(len(b)), bytes.NewReader(b)); err != nil {
					rt.Fatal(err)
				}
				if !s.Has(wasmatrix.DigestOf(b)) {
					rt.Fatal("what was just written is not there")
				}
			},
			"breakOff": func(rt *rapid.T) {
				b := contents()
				if err := s.Write(t.Context(), wasmatrix.DigestOf(b), int64(len(b))+1, bytes.NewReader(b)); err == nil && !s.Has(wasmatrix.DigestOf(b)) {
					rt.Fatal("half a module was taken")
				}
			},
			"read": func(rt *rapid.T) {
				b := contents()
				had := s.Has(wasmatrix.DigestOf(b))
				got, err := s.Read(wasmatrix.DigestOf(b))
				if had != (err == nil) || had && !bytes.Equal(got, b) {
					rt.Fatalf("had %v, read %d bytes, %v", had, len(got), err)
				}
			},
			"remove": func(rt *rapid.T) {
				if err := s.Remove(wasmatrix.DigestOf(contents())); err != nil {
					rt.Fatal(err)
				}
			},
			"reopen": func(*rapid.T) { s = openStore(t, dir, most) },
			"": func(rt *rapid.T) {
				var total int64
				var names []string
				for _, e := range s.List() {
					total += e.Size
					names = append(names, filepath.Base(filePath(dir, e.Digest)))
				}
				if total > most {
					rt.Fatalf("%d bytes kept", total)
				}
				if on := files(t, dir); !slices.Equal(on, names) {
					rt.Fatalf("on the disk %q, in the index %q", on, names)
				}
			},
		})
	})
}

func TestStoreTakesConcurrentWritesOfOneModule(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, 0)
	b, d := blob(1, 300_000)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := s.Write(t.Context(), d, int64(len(b)), iotest.HalfReader(bytes.NewReader(b))); err != nil {
				t.Error(err)
			}
			if got, err := s.Read(d); err != nil || !bytes.Equal(got, b) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	if left := files(t, dir); len(left) != 1 {
		t.Errorf("left %q", left)
	}
	// What the writers had reserved is free again.
	if err := openStore(t, dir, 300_000).Verify(t.Context(), d); err != nil {
		t.Error(err)
	}
}

func TestWriterReleasesWhatItReserved(t *testing.T) {
	s := openStore(t, t.TempDir(), 1000)
	b, d := blob(1, 1000)
	for range 3 {
		w, err := s.Create(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b[:1]); wasmatrix.CodeOf(err) != wasmatrix.CodeResourceExhausted {
			t.Errorf("beyond the bound: %v", err)
		}
		if err := w.Commit(d, -1); err == nil {
			t.Error("a writer that failed was committed")
		}
		w.Close()
		w.Close()
	}
	mustWrite(t, s, b)
}
