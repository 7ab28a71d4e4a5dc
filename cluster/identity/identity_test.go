package identity_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/cluster/identity"
)

func open(t *testing.T, dir, name string) *identity.Identity {
	t.Helper()
	id, err := identity.Open(dir, name)
	if err != nil {
		t.Fatalf("open %s: %v", dir, err)
	}
	t.Cleanup(func() { _ = id.Close() })
	return id
}

func wantCode(t *testing.T, err error, code wasmatrix.Code, part string) {
	t.Helper()
	if wasmatrix.CodeOf(err) != code || !strings.Contains(err.Error(), part) {
		t.Fatalf("got %v, want %s with %q", err, code, part)
	}
}

func TestIdentityIsDrawnOnceAndKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	a := open(t, dir, "eu.west-1")
	if !regexp.MustCompile(`^eu\.west-1\.[0-9a-f]{8}$`).MatchString(string(a.Server())) {
		t.Fatalf("server ID %q", a.Server())
	}
	if a.Cluster() != "" {
		t.Fatalf("a new directory belongs to cluster %q", a.Cluster())
	}
	if err := a.SetCluster("c1"); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b := open(t, dir, "eu.west-1")
	if b.Server() != a.Server() || b.Cluster() != "c1" {
		t.Fatalf("reopened as %q of %q, was %q of c1", b.Server(), b.Cluster(), a.Server())
	}
}

func TestWipedDirectoryHasAnotherID(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir, "a")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if b := open(t, dir, "a"); b.Server() == a.Server() {
		t.Fatalf("a wiped directory got the same ID %q", b.Server())
	}
}

func TestClusterIsSetOnce(t *testing.T) {
	id := open(t, t.TempDir(), "a")
	for range 2 {
		if err := id.SetCluster("c1"); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, id.SetCluster("c2"), wasmatrix.CodeConflict, "belongs to cluster c1")
	wantCode(t, id.SetCluster(""), wasmatrix.CodeInvalidRequest, "not valid")
	if id.Cluster() != "c1" {
		t.Fatalf("cluster is %q", id.Cluster())
	}
	if err := id.Close(); err != nil {
		t.Fatal(err)
	}
	if err := id.Close(); err != nil {
		t.Fatalf("second close: %v", err)
	}
	wantCode(t, id.SetCluster("c1"), wasmatrix.CodeStorage, "closed")
}

func TestRefusals(t *testing.T) {
	write := func(file, content string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		prepare func(*testing.T, string)
		code    wasmatrix.Code
		part    string
	}{
		"newer version":        {write("version", "2\n"), wasmatrix.CodeStorage, "newer release"},
		"illegible version":    {write("version", "two\n"), wasmatrix.CodeStorage, "no legible format version"},
		"torn version":         {write("version", ""), wasmatrix.CodeStorage, "damaged"},
		"other name":           {write("server-id", "b.00112233\n"), wasmatrix.CodeConflict, `belongs to agent "b"`},
		"illegible ID":         {write("server-id", "a.0011223z\n"), wasmatrix.CodeStorage, "no legible server ID"},
		"short ID":             {write("server-id", "a\n"), wasmatrix.CodeStorage, "no legible server ID"},
		"cluster but no ID":    {write("cluster-id", "c1\n"), wasmatrix.CodeStorage, "server-id is missing"},
		"cluster of two lines": {write("cluster-id", "c1\nc2\n"), wasmatrix.CodeStorage, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.prepare(t, dir)
			_, err := identity.Open(dir, "a")
			wantCode(t, err, c.code, c.part)
		})
	}
	_, err := identity.Open(t.TempDir(), "no/name")
	wantCode(t, err, wasmatrix.CodeInvalidRequest, "server name")
}

func TestNewerVersionIsNotTouched(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "version"), []byte("999\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := identity.Open(dir, "a")
	wantCode(t, err, wasmatrix.CodeStorage, "format version 999")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Fatalf("the directory now holds %v", entries)
	}
}

func TestFileWhereADirectoryShouldBe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := identity.Open(path, "a")
	wantCode(t, err, wasmatrix.CodeStorage, "data directory")
}

// The temporary file of a write that a crash cut short must not stand in the way.
func TestLeftoverTemporaryFile(t *testing.T) {
	dir := t.TempDir()
	tmp := filepath.Join(dir, "cluster-id.tmp")
	if err := os.WriteFile(tmp, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := open(t, dir, "a")
	if err := id.SetCluster("c1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tmp); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the temporary file is still there: %v", err)
	}
}

func TestLockedByThisProcess(t *testing.T) {
	dir := t.TempDir()
	id := open(t, dir, "a")
	_, err := identity.Open(dir, "a")
	wantCode(t, err, wasmatrix.CodeConflict, "in use by another process")
	if err := id.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, "a")
}

const childDir = "WASMATRIX_IDENTITY_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	os.Exit(m.Run())
}

// child opens the directory, says how that went, and holds it until its input ends.
func child(dir string) int {
	id, err := identity.Open(dir, "a")
	if err != nil {
		_, _ = os.Stdout.WriteString(err.Error() + "\n")
		return 1
	}
	_, _ = os.Stdout.WriteString("open " + string(id.Server()) + "\n")
	var b [1]byte
	_, _ = os.Stdin.Read(b[:])
	return 0
}

func TestLockedByAnotherProcessUntilItIsKilled(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 256)
	n, err := stdout.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	server, ok := strings.CutPrefix(strings.TrimSpace(string(buf[:n])), "open ")
	if !ok {
		t.Fatalf("the child says %q", buf[:n])
	}
	_, err = identity.Open(dir, "a")
	wantCode(t, err, wasmatrix.CodeConflict, "in use by another process")

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed: the error says so
	if id := open(t, dir, "a"); string(id.Server()) != server {
		t.Fatalf("opened as %s after %s was killed", id.Server(), server)
	}
}

func TestWhatIsKeptOfAGroup(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir, "a")
	if line, err := a.Group("kv"); line != "" || err != nil {
		t.Fatalf("a new directory has %q, %v", line, err)
	}
	for _, line := range []string{"one", "two"} {
		if err := a.SetGroup("kv", line); err != nil {
			t.Fatal(err)
		}
		if got, err := a.Group("kv"); got != line || err != nil {
			t.Fatalf("kept %q, %v, want %q", got, err, line)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, a.SetGroup("kv", "three"), wasmatrix.CodeStorage, "closed")
	b := open(t, dir, "a")
	if got, err := b.Group("kv"); got != "two" || err != nil {
		t.Fatalf("reopened with %q, %v", got, err)
	}
	// What a crash of a careless editor left is no group's.
	if err := os.WriteFile(filepath.Join(dir, "group-kv"), []byte("tw"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := b.Group("kv")
	wantCode(t, err, wasmatrix.CodeStorage, "damaged")
}
