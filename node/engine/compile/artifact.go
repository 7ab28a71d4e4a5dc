package compile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/node/meter"
)

// Fetch returns the bytes of a module. They are not changed afterwards.
type Fetch = func(context.Context) ([]byte, error)

// Artifact is a compiled module. Its native code lies where a runtime whose
// cache is [Cache.Dir] finds it, while the artifact is in use.
type Artifact struct {
	Wasm    []byte // metered
	Kind    wasmatrix.ModuleKind
	Imports []string // functions that the source imports, "module.name", sorted
	Tables  uint64   // elements that its tables begin with together
	// Memory is about what a process takes that has it loaded, in bytes: the
	// metered module, which the engine keeps, and the native code.
	Memory int64
	// Debug reads what source lines are found by; nil where the source has none.
	// It may be called later, and fails if the entry is gone by then.
	Debug func() (*meter.Debug, error)
}

// manifest describes an entry of the cache. The child writes it.
type manifest struct {
	Kind    wasmatrix.ModuleKind
	Imports []string
	Tables  uint64
	Module  file // metered
	Debug   file // zero where there is none
	Code    file // wazero's own, in its directory
}

// file is the name, without a directory, and content of a file.
type file struct {
	Name   string
	Bytes  int64
	SHA256 [32]byte
}

func (m *manifest) bytes() int64 { return m.Module.Bytes + m.Debug.Bytes + m.Code.Bytes }

// encode returns a manifest as it is on disk: the hash of the rest in
// hexadecimal, a line feed, and JSON.
func (m *manifest) encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return append(append(hex.AppendEncode(nil, sum[:]), '\n'), b...), nil
}

func (m *manifest) decode(b []byte) error {
	hash, b, _ := bytes.Cut(b, []byte{'\n'})
	if sum := sha256.Sum256(b); string(hash) != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("%s: %w", manifestFile, errDamaged)
	}
	if err := json.Unmarshal(b, m); err != nil {
		return err
	}
	return m.check()
}

// check sees that a manifest names no files but those that it may: a child has
// parsed what a stranger sent.
func (m *manifest) check() error {
	_, err := hex.DecodeString(m.Code.Name)
	if err != nil || m.Code.Name == "" || m.Module.Name != moduleFile || m.Debug.Name != "" && m.Debug.Name != debugFile {
		return fmt.Errorf("unexpected files in the manifest: %q, %q, %q", m.Module.Name, m.Debug.Name, m.Code.Name)
	}
	return nil
}

// request is what a child is asked for.
type request struct {
	Program string // what the child must be, see [program]
	Source  string // path of the module
	Dir     string // where to leave the results; nothing else is in it
	Limits  meter.Limits
	Memory  uint64 // bytes of address space beyond what the child begins with
	CPU     uint64 // seconds of CPU time after which the child is killed
	Favour  int64  // nanoseconds of CPU time after which its priority is the lowest
	// What loading the result may take: nanoseconds of CPU time, and bytes.
	LoadTime  int64
	LoadBytes uint64
}

// answer is what a child says at its end.
type answer struct {
	Manifest manifest
	Code     wasmatrix.Code // of the failure; "" for none
	Message  string
	// What loading the result took.
	LoadTime  int64
	LoadBytes uint64
}
