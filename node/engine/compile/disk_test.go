package compile

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/meter"
)

// files lists all regular files below a directory but the notes of the tests.
func files(tb testing.TB, dir string) []string {
	tb.Helper()
	var found []string
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && info.Name() != "children" {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

func TestARestartFindsEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src := withLines(numbered(1))
	c := open(t, Config{Dir: dir})
	a := mustLoad(t, c, src)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = open(t, Config{Dir: dir})
	again := mustLoad(t, c, src)
	if !bytes.Equal(a.Wasm, again.Wasm) || again.Kind != a.Kind || again.Debug == nil {
		t.Error("another artifact")
	}
	if n := len(children(t, dir)); n != 1 {
		t.Errorf("%d children", n)
	}
}

// TestDamageIsNoticed damages each file of an entry in several ways, while the
// cache is open and while it is not.
func TestDamageIsNoticed(t *testing.T) {
	t.Parallel()
	damages := map[string]func(b []byte) []byte{
		"first byte": func(b []byte) []byte { b[0] ^= 1; return b },
		"middle":     func(b []byte) []byte { b[len(b)/2] ^= 0x80; return b },
		"last byte":  func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"truncated":  func(b []byte) []byte { return b[:len(b)/2] },
		"emptied":    func([]byte) []byte { return nil },
		"longer":     func(b []byte) []byte { return append(b, 0) },
		"removed":    nil,
	}
	for what, change := range damages {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			cfg := Config{Dir: t.TempDir(), Logger: hclog.New(&hclog.LoggerOptions{Output: &log})}
			src := withLines(numbered(2))
			c := open(t, cfg)
			mustLoad(t, c, src)
			all := files(t, cfg.Dir)
			if len(all) != 4 {
				t.Fatalf("an entry is %v", all)
			}
			count := 1
			for _, path := range all {
				isManifest := filepath.Base(path) == manifestFile
				isDebug := filepath.Base(path) == debugFile
				for _, closed := range []bool{false, true} {
					if isManifest && !closed {
						continue // its content is in memory
					}
					b, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					if closed {
						if err := c.Close(); err != nil {
							t.Fatal(err)
						}
					}
					if change == nil {
						err = os.Remove(path)
					} else {
						err = os.WriteFile(path, change(bytes.Clone(b)), 0o600)
					}
					if err != nil {
						t.Fatal(err)
					}
					if closed {
						c = open(t, cfg)
					}
					log.Reset()
					a := mustLoad(t, c, src)
					count++
					if n := len(children(t, cfg.Dir)); n != count {
						t.Errorf("%s, closed %v: %d children, want %d", filepath.Base(path), closed, n, count)
						count = n
					}
					if !isManifest && !strings.Contains(log.String(), "damaged") {
						t.Errorf("%s, closed %v: the log says %q", filepath.Base(path), closed, log.String())
					}
					if now, err := os.ReadFile(path); err != nil || !isManifest && !bytes.Equal(now, b) {
						t.Errorf("%s, closed %v: not rebuilt: %v", filepath.Base(path), closed, err)
					}
					if _, err := a.Debug(); err != nil {
						t.Errorf("%s, closed %v: %v", filepath.Base(path), closed, err)
					}
					if isDebug {
						// Damage after loading is noticed at the time of reading.
						if err := os.WriteFile(path, []byte("?"), 0o600); err != nil {
							t.Fatal(err)
						}
						if _, err := a.Debug(); err == nil {
							t.Error("damaged debug information was taken")
						}
						if err := os.WriteFile(path, b, 0o600); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			if n := len(code(t, c)); n != 1 {
				t.Errorf("%d files of code: this process has compiled", n)
			}
		})
	}
}

// TestWhatIsInUseStays sees that neither damage nor eviction takes native code
// away between its verification and its use.
func TestWhatIsInUseStays(t *testing.T) {
	t.Parallel()
	c := open(t, Config{DirBytes: 1})
	src := numbered(3)
	// The same code from another source: both have the same file.
	twin := append(bytes.Clone(src), custom("twin", nil)...)
	var wg sync.WaitGroup
	inUse, gate := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		err := c.Load(t.Context(), wasmatrix.DigestOf(src), give(src), func(a *Artifact) error {
			close(inUse)
			<-gate
			_, err := load(t.Context(), c.Dir(), a.Wasm)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-inUse
	path := code(t, c)[0]
	before, err := describe(path)
	if err != nil {
		t.Fatal(err)
	}
	// Others come and go, nothing of which has room.
	mustLoad(t, c, numbered(4))
	mustLoad(t, c, twin)
	if got := code(t, c); len(got) != 1 || got[0] != path {
		t.Errorf("beside what is in use there is %v", got)
	}
	// Damage that somebody else finds.
	module := filepath.Join(c.Dir(), entriesDir, c.key(wasmatrix.DigestOf(src)), moduleFile)
	if err := os.WriteFile(module, []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	e := c.index.pin(c.key(wasmatrix.DigestOf(src)))
	c.mu.Unlock()
	if _, err := e.artifact(c.code); err == nil {
		t.Error("the damage is not found")
	}
	c.mu.Lock()
	c.index.remove(e, c.log)
	c.mu.Unlock()
	c.unpin(e)
	if now, err := describe(path); err != nil || now != before {
		t.Errorf("the code in use has gone: %v", err)
	}
	close(gate)
	wg.Wait()
	if left := files(t, c.Dir()); len(left) != 0 {
		t.Errorf("after all use there is %v", left)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.index.entries) != 0 || len(c.index.codeUsers) != 0 || c.index.bytes != 0 {
		t.Errorf("index %+v", c.index)
	}
}

func TestEvictionTakesTheLeastRecentlyUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, Config{Dir: dir})
	for i := range 4 {
		mustLoad(t, c, numbered(i))
	}
	mustLoad(t, c, numbered(0)) // so that 1 is the oldest
	c.mu.Lock()
	each := c.index.bytes / 4
	c.mu.Unlock()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	// The order survives a restart.
	c = open(t, Config{Dir: dir, DirBytes: 3*each + each/2})
	has := func(want ...int) {
		t.Helper()
		c.mu.Lock()
		defer c.mu.Unlock()
		for i := range 6 {
			wanted := false
			for _, w := range want {
				wanted = wanted || w == i
			}
			if got := c.index.has(c.key(wasmatrix.DigestOf(numbered(i)))); got != wanted {
				t.Errorf("number %d is there: %v", i, got)
			}
		}
	}
	has(0, 2, 3)
	mustLoad(t, c, numbered(2))
	mustLoad(t, c, numbered(5))
	has(0, 2, 5)
	if n := len(code(t, c)); n != 3 {
		t.Errorf("%d files of code", n)
	}
	var size int64
	for _, path := range files(t, dir) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Name() != manifestFile {
			size += info.Size()
		}
	}
	if size > 3*each+each/2 {
		t.Errorf("%d bytes are kept", size)
	}
}

// TestManyModulesInASmallCache loads, at the same time, more than has room.
func TestManyModulesInASmallCache(t *testing.T) {
	t.Parallel()
	c := open(t, Config{DirBytes: 1, Parallel: 2})
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() { mustLoad(t, c, numbered(i%8)) })
	}
	wg.Wait()
	if left := files(t, c.Dir()); len(left) != 0 {
		t.Errorf("there is %v", left)
	}
}

func TestLeftoversGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, Config{Dir: dir})
	src := numbered(1)
	mustLoad(t, c, src)
	kept := files(t, dir)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		tempPrefix + "1/" + moduleFile, tempPrefix + "1.source", entriesDir + "/half/" + moduleFile,
		filepath.Base(c.code) + "/00ff", filepath.Base(c.code) + "/00ff.12.tmp", "wazero-v0.0.1-amd64-linux/00ff",
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c = open(t, Config{Dir: dir})
	if got := files(t, dir); strings.Join(got, " ") != strings.Join(kept, " ") {
		t.Errorf("there is %v, want %v", got, kept)
	}
	mustLoad(t, c, src)
	if n := len(children(t, dir)); n != 1 {
		t.Errorf("%d children", n)
	}
}

// TestAnotherVersionIsAnotherEntry sees that nothing is used that another
// meter, engine or processor has made, or that was made for other limits.
func TestAnotherVersionIsAnotherEntry(t *testing.T) {
	t.Parallel()
	cfg := &Config{}
	e := engine{dir: "wazero-v1-amd64-linux", file: "00"}
	versions := map[string]string{
		"same":      version(e, cfg),
		"wazero":    version(engine{dir: "wazero-v2-amd64-linux", file: "00"}, cfg),
		"processor": version(engine{dir: e.dir, file: "01"}, cfg),
		"limits":    version(e, &Config{Limits: meter.Limits{Locals: 7}}),
	}
	seen := make(map[string]string)
	for what, v := range versions {
		if other, ok := seen[v]; ok {
			t.Errorf("%s and %s have one version", what, other)
		}
		seen[v] = what
	}
	if version(e, &Config{DirBytes: 5, Timeout: time.Hour, Parallel: 9}) != versions["same"] {
		t.Error("what decides nothing changes the version")
	}

	// On disk: an entry of another version does not count, and goes.
	dir := t.TempDir()
	c := open(t, Config{Dir: dir})
	src := numbered(1)
	mustLoad(t, c, src)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(dir, entriesDir, c.key(wasmatrix.DigestOf(src)))
	other := strings.TrimSuffix(place, c.version) + strings.Repeat("0", len(c.version))
	if err := os.Rename(place, other); err != nil {
		t.Fatal(err)
	}
	c = open(t, Config{Dir: dir})
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("of another version there is %v", got)
	}
	mustLoad(t, c, src)
	if n := len(children(t, dir)); n != 2 {
		t.Errorf("%d children", n)
	}
}

// TestCodeOfAnotherEngineIsNotTakenForLoaded has the engine find code that says
// it is of another version, which it then compiles anew.
func TestCodeOfAnotherEngineIsNotTakenForLoaded(t *testing.T) {
	t.Parallel()
	req := &request{Dir: t.TempDir(), LoadTime: int64(time.Hour), LoadBytes: 1 << 40}
	src := numbered(1)
	if _, err := load(t.Context(), req.Dir, src); err != nil {
		t.Fatal(err)
	}
	path, err := codeFile(req.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := rehearse(t.Context(), req, src, path, new(answer)); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	version := strings.TrimPrefix(filepath.Base(filepath.Dir(path)), "wazero-")
	version, _, _ = strings.Cut(version, "-")
	i := bytes.Index(b, []byte(version))
	if i < 0 {
		t.Fatalf("no version %s in the code", version)
	}
	b[i] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := rehearse(t.Context(), req, src, path, new(answer)); err == nil || !strings.Contains(err.Error(), "compiled the module again") {
		t.Errorf("error %v", err)
	}
}

func TestAPlaceThatIsTakenLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	c := open(t, Config{})
	src := numbered(1)
	// Nothing can be put below what is a file.
	if err := os.Remove(filepath.Join(c.Dir(), entriesDir)); err != nil {
		t.Fatal(err)
	}
	blocker := filepath.Join(c.Dir(), entriesDir)
	if err := os.WriteFile(blocker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := c.Load(t.Context(), wasmatrix.DigestOf(src), give(src), nil)
	if wasmatrix.CodeOf(err) != wasmatrix.CodeStorage {
		t.Errorf("error %v", err)
	}
	if left := files(t, c.Dir()); len(left) != 1 {
		t.Errorf("there is %v", left)
	}
	// The failure is not the module's.
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(blocker, 0o700); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, c, src)
}
