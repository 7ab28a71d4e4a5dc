package store

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/snapfile/snapfiletest"
)

// full returns a store with some of everything.
func full(t testing.TB, entries, size int) *Store {
	s := New(Options{})
	for n := range entries {
		c := setOf(wasmatrix.Time(n+1), fmt.Sprintf("key%06d", n), strings.Repeat(fmt.Sprint(n%7), size), 0)
		c.Namespace.Name = fmt.Sprintf("own/i/%d", n%10)
		c.ID = [16]byte{byte(n), byte(n >> 8), byte(n >> 16), 1}
		if n%3 == 0 {
			c.TTL = time.Hour
		}
		apply[Written](t, s, uint64(n/5+1), c)
	}
	apply[[]Fence](t, s, 1, &RaiseFences{Fences: []Fence{{"i", 1, 1}, {"i", 2, 5}, {"j", 1, 3}}})
	s.Apply(1, must(&Delete{Caller: caller, Namespace: own, Key: "none", ID: [16]byte{9, 9, 9}}))
	conflict := setOf(1, "none", "", 0)
	conflict.Expect, conflict.ID = new(uint64(3)), [16]byte{9, 9, 8}
	s.Apply(1, must(conflict))
	return s
}

func saved(t testing.TB, s *Store) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Snapshot()(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSnapshotOfManyChunks(t *testing.T) {
	s := full(t, 3000, 900)
	large := setOf(1, "large", strings.Repeat("x", 3<<20), 0)
	apply[Written](t, s, 1, large)
	b := saved(t, s)
	info, err := Inspect(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if info.Hash != s.Hash() || info.Stats != s.Stats() || info.Bytes != int64(len(b)) || info.ProductVersion != wasmatrix.Version || info.SchemaVersion != SchemaVersion {
		t.Errorf("%+v of %+v", info, s.Stats())
	}
	r := New(Options{})
	if err := r.Restore(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	if r.Hash() != s.Hash() {
		t.Error("the restored state has another hash")
	}
	if a, b := s.Usage(own), r.Usage(own); a != b {
		t.Errorf("usage was %+v and is %+v", a, b)
	}
	if a, _ := s.NextExpiry(); a == 0 {
		t.Error("nothing runs out")
	} else if b, _ := r.NextExpiry(); a != b {
		t.Errorf("the next to run out is at %d, and was at %d", b, a)
	}
}

// Whatever becomes of a snapshot is noticed, and leaves the state as it was.
func TestDamagedSnapshots(t *testing.T) {
	b := saved(t, full(t, 40, 20))
	s := full(t, 3, 3)
	before := s.Hash()
	refuse := func(what string, damaged []byte) {
		t.Helper()
		if err := s.Restore(bytes.NewReader(damaged)); wasmatrix.CodeOf(err) != wasmatrix.CodeStorage {
			t.Fatalf("%s: %v", what, err)
		}
		if err := Verify(bytes.NewReader(damaged)); err == nil {
			t.Fatalf("%s is verified", what)
		}
	}
	for n := range b {
		refuse(fmt.Sprintf("cut at byte %d", n), b[:n])
		flipped := bytes.Clone(b)
		flipped[n] ^= 1 << (n % 8)
		refuse(fmt.Sprintf("byte %d changed", n), flipped)
	}
	refuse("followed by more", append(bytes.Clone(b), 0))
	if s.Hash() != before {
		t.Error("a snapshot that was refused has changed the state")
	}
	// One chunk of the same kind left out, or given twice, has the right checksums.
	many := saved(t, full(t, 3000, 300))
	version, chunks := snapfiletest.Split(t, snapshotFormat, many)
	if len(chunks) < 5 {
		t.Fatalf("only %d chunks", len(chunks))
	}
	for n, c := range chunks {
		out, twice := slices.Delete(slices.Clone(chunks), n, n+1), slices.Insert(slices.Clone(chunks), n, c)
		refuse(fmt.Sprintf("chunk %d left out", n), snapfiletest.Join(snapshotFormat, version, out))
		refuse(fmt.Sprintf("chunk %d twice", n), snapfiletest.Join(snapshotFormat, version, twice))
	}
}

func TestSnapshotOfANewerRelease(t *testing.T) {
	b := saved(t, full(t, 3, 3))
	b[len(snapshotFormat.Magic)+3] = SchemaVersion + 1
	if err := Verify(bytes.NewReader(b)); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("got %v", err)
	}
}

type failingWriter struct{ left int }

var errFull = errors.New("disk full")

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestSnapshotToAFullDisk(t *testing.T) {
	s := full(t, 40, 20)
	size := len(saved(t, s))
	for _, left := range []int{0, 5, 50, size / 2, size - 1} {
		if err := s.Snapshot()(&failingWriter{left}); !errors.Is(err, errFull) {
			t.Errorf("with %d bytes left: %v", left, err)
		}
	}
}

// TestKeptSnapshot reads one that an earlier build wrote. A snapshot of every
// schema version stays readable for ever.
func TestKeptSnapshot(t *testing.T) {
	path := filepath.Join("testdata", "v1.snapshot")
	if os.Getenv("KV_WRITE_FIXTURE") != "" {
		if err := os.WriteFile(path, saved(t, full(t, 40, 20)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := Inspect(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	// The same commands make the same state in this build: rules are kept as well.
	if want := full(t, 40, 20).Hash(); info.Hash != want {
		t.Errorf("the state has hash %s, and these commands make %s", hex.EncodeToString(info.Hash[:]), hex.EncodeToString(want[:]))
	}
}
