// Package identity keeps what makes a data directory one server of one
// cluster: the lock that gives it to one process, the version of its format,
// the [wasmatrix.ServerID] drawn for it once, the cluster it belongs to, and what
// the server has accepted of how its hosted Raft groups begin.
//
// A server whose disk was wiped draws another ID, so that it never speaks for
// the log that was lost.
package identity

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/wasmatrix/wasmatrix"
)

// Version is the format of the data directory that this build writes. It
// reads all versions from 1 up to it.
const Version = 1

const (
	lockFile    = "lock"
	versionFile = "version"
	serverFile  = "server-id"
	clusterFile = "cluster-id"
	groupPrefix = "group-" // and the name of a hosted Raft group

	suffixBytes = 4 // random bytes behind the name, two hexadecimal digits each
)

// Identity is an open, locked data directory. Its methods are safe for
// concurrent use.
type Identity struct {
	dir    string
	server wasmatrix.ServerID
	lock   *os.File

	mu      sync.Mutex
	cluster wasmatrix.ClusterID
	closed  bool
}

// Open locks dir, creating it if need be, and reads or draws its identity.
// Close gives the lock back; so does the end of the process.
//
// Errors: STORAGE_ERROR where the directory cannot be used or was written by a
// newer version (nothing is touched then), CONFLICT where another process has
// it open or it belongs to a server of another name.
func Open(dir, name string) (*Identity, error) {
	if err := wasmatrix.ValidateName("server name", name); err != nil {
		return nil, err
	}
	// Before the lock, because taking it makes a file.
	if _, err := readVersion(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "create the data directory: %w", err)
	}
	lock, err := lockDir(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, err
	}
	id, err := load(dir, name)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	id.lock = lock
	return id, nil
}

func load(dir, name string) (*Identity, error) {
	version, err := readVersion(dir)
	if err != nil {
		return nil, err
	}
	server, err := readServer(dir, name)
	if err != nil {
		return nil, err
	}
	cluster, err := readLine(filepath.Join(dir, clusterFile))
	if err != nil {
		return nil, err
	}
	if server == "" && cluster != "" {
		return nil, wasmatrix.Errorf(wasmatrix.CodeStorage, "the data directory %s belongs to cluster %s but its %s is missing", dir, cluster, serverFile)
	}
	if version == 0 {
		if err := writeLine(filepath.Join(dir, versionFile), strconv.Itoa(Version)); err != nil {
			return nil, err
		}
	}
	if server == "" {
		var raw [suffixBytes]byte
		_, _ = rand.Read(raw[:]) // never fails
		server = wasmatrix.ServerID(name + "." + hex.EncodeToString(raw[:]))
		if err := writeLine(filepath.Join(dir, serverFile), string(server)); err != nil {
			return nil, err
		}
	}
	return &Identity{dir: dir, server: server, cluster: wasmatrix.ClusterID(cluster)}, nil
}

// Dir returns the data directory as it was given to Open.
func (id *Identity) Dir() string { return id.dir }

// Server returns the ID drawn for this directory.
func (id *Identity) Server() wasmatrix.ServerID { return id.server }

// Cluster returns the cluster the directory belongs to, "" before it has one.
func (id *Identity) Cluster() wasmatrix.ClusterID {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.cluster
}

// SetCluster binds the directory to a cluster for ever; it is on disk when
// SetCluster returns. Setting the same one again does nothing; another one is
// CONFLICT.
func (id *Identity) SetCluster(cluster wasmatrix.ClusterID) error {
	if cluster == "" || strings.ContainsAny(string(cluster), "\r\n") {
		return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, "cluster ID %q is not valid", cluster)
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.closed {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "the data directory %s is closed", id.dir)
	}
	if id.cluster == cluster {
		return nil
	}
	if id.cluster != "" {
		return wasmatrix.Errorf(wasmatrix.CodeConflict, "the data directory %s belongs to cluster %s, not %s", id.dir, id.cluster, cluster)
	}
	if err := writeLine(filepath.Join(id.dir, clusterFile), string(cluster)); err != nil {
		return err
	}
	id.cluster = cluster
	return nil
}

// Group returns the line that SetGroup kept for a hosted Raft group, "" where
// there is none.
func (id *Identity) Group(name string) (string, error) {
	return readLine(filepath.Join(id.dir, groupPrefix+name))
}

// SetGroup keeps a line for a hosted Raft group in place of the last one; it is
// on disk when SetGroup returns.
func (id *Identity) SetGroup(name, line string) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.closed {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "the data directory %s is closed", id.dir)
	}
	return writeLine(filepath.Join(id.dir, groupPrefix+name), line)
}

// Close gives the directory to whoever asks next. Further calls do nothing.
func (id *Identity) Close() error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.closed {
		return nil
	}
	id.closed = true
	// Closing drops the lock. The file stays: removing it would let two
	// processes lock two files of the same name.
	if err := id.lock.Close(); err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "unlock the data directory: %w", err)
	}
	return nil
}

// readVersion returns 0 where there is none yet.
func readVersion(dir string) (int, error) {
	s, err := readLine(filepath.Join(dir, versionFile))
	if err != nil || s == "" {
		return 0, err
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < 1 {
		return 0, wasmatrix.Errorf(wasmatrix.CodeStorage, "the data directory %s has no legible format version: %q", dir, s)
	}
	if v > Version {
		return 0, wasmatrix.Errorf(wasmatrix.CodeStorage,
			"the data directory %s has format version %d, this build knows none above %d: it was used by a newer release", dir, v, Version)
	}
	return v, nil
}

// readServer returns "" where none was drawn yet.
func readServer(dir, name string) (wasmatrix.ServerID, error) {
	s, err := readLine(filepath.Join(dir, serverFile))
	if err != nil || s == "" {
		return "", err
	}
	dot := len(s) - 2*suffixBytes - 1
	if dot < 1 || s[dot] != '.' {
		return "", wasmatrix.Errorf(wasmatrix.CodeStorage, "the data directory %s has no legible server ID: %q", dir, s)
	}
	if _, err := hex.DecodeString(s[dot+1:]); err != nil {
		return "", wasmatrix.Errorf(wasmatrix.CodeStorage, "the data directory %s has no legible server ID: %q", dir, s)
	}
	if s[:dot] != name {
		return "", wasmatrix.Errorf(wasmatrix.CodeConflict, "the data directory %s belongs to agent %q, not to %q", dir, s[:dot], name)
	}
	return wasmatrix.ServerID(s), nil
}

// readLine returns "" where the file does not exist. A file without its final
// newline was not written by us.
func readLine(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", wasmatrix.Errorf(wasmatrix.CodeStorage, "read the data directory: %w", err)
	}
	line, ok := strings.CutSuffix(string(b), "\n")
	if !ok || line == "" || strings.Contains(line, "\n") {
		return "", wasmatrix.Errorf(wasmatrix.CodeStorage, "%s is damaged", path)
	}
	return line, nil
}

// writeLine replaces a file atomically: after a crash it holds the old line or
// the new one, and the new one once writeLine has returned.
func writeLine(path, line string) error {
	if err := Replace(path, []byte(line+"\n")); err != nil {
		return wasmatrix.Errorf(wasmatrix.CodeStorage, "write the data directory: %w", err)
	}
	return nil
}

// Replace writes a file of a data directory: after a crash it holds what it did before, or
// content, and content once Replace has returned.
func Replace(path string, content []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
