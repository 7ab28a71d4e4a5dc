package wasmatrix

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// Identifiers. They are distinct types so that one cannot be passed for
// another; all of them are comparable and usable as map keys.
type (
	// InstanceID names an instance in the cluster, for ever: an ID is not
	// used again while any record of the instance remains.
	InstanceID string
	// NodeID names a worker node: the name in its agent's configuration.
	NodeID string
	// ServerID names a Raft peer and the disk it keeps its log on,
	// "name.xxxxxxxx". A server whose disk was wiped has another ServerID.
	ServerID string
	// CapabilityID names an assignment within one instance.
	CapabilityID string
	// ProviderID names a capability provider in the cluster.
	ProviderID string
	// RequestID is chosen by a client and makes a retry have its effect once.
	RequestID string
	// ClusterID is drawn at random when a cluster is bootstrapped.
	ClusterID string
	// BootID is drawn at random each time a node process starts.
	BootID string
)

const (
	maxNameLen      = 64
	maxRequestIDLen = 128
)

// Validate reports E1 unless the ID is 1 to 64 of [A-Za-z0-9._-] and begins
// with a letter or digit.
func (id InstanceID) Validate() error { return validateName("instance ID", string(id)) }

// Validate holds node names to the rule of [InstanceID.Validate].
func (id NodeID) Validate() error { return validateName("node ID", string(id)) }

// Validate holds capability IDs to the rule of [InstanceID.Validate].
func (id CapabilityID) Validate() error { return validateName("capability ID", string(id)) }

// Validate holds provider IDs to the rule of [InstanceID.Validate].
func (id ProviderID) Validate() error { return validateName("provider ID", string(id)) }

// Validate reports E1 unless the ID is 1 to 128 printable ASCII characters
// without spaces.
func (id RequestID) Validate() error {
	if id == "" {
		return Errorf(CodeInvalidRequest, "request ID is empty")
	}
	if len(id) > maxRequestIDLen {
		return Errorf(CodeInvalidRequest, "request ID has %d characters, at most %d are allowed", len(id), maxRequestIDLen)
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return Errorf(CodeInvalidRequest, "request ID has a character that is not printable ASCII at position %d", i)
		}
	}
	return nil
}

// ValidateName reports E1 unless s is 1 to 64 of [A-Za-z0-9._-] and begins
// with a letter or digit. What names the kind of thing in the message.
func ValidateName(what, s string) error { return validateName(what, s) }

func validateName(what, s string) error {
	if s == "" {
		return Errorf(CodeInvalidRequest, "%s is empty", what)
	}
	if len(s) > maxNameLen {
		return Errorf(CodeInvalidRequest, "%s has %d characters, at most %d are allowed", what, len(s), maxNameLen)
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case isAlnum(c):
		case i > 0 && (c == '-' || c == '_' || c == '.'):
		default:
			return Errorf(CodeInvalidRequest, "%s %q has a character that is not allowed at position %d: letters and digits, then also '.', '_' and '-'", what, s, i)
		}
	}
	return nil
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// Digest is the SHA-256 of a module's bytes: its identity everywhere.
type Digest [sha256.Size]byte

const digestPrefix = "sha256:"

// DigestOf hashes b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// String returns "sha256:" and 64 hexadecimal digits.
func (d Digest) String() string { return digestPrefix + hex.EncodeToString(d[:]) }

// Short returns the first 12 hexadecimal digits, for tables.
func (d Digest) Short() string { return hex.EncodeToString(d[:6]) }

// IsZero reports whether d is unset.
func (d Digest) IsZero() bool { return d == Digest{} }

// ParseDigest reads what [Digest.String] writes. Errors are E1.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	raw, ok := strings.CutPrefix(s, digestPrefix)
	if !ok || len(raw) != 2*len(d) {
		return Digest{}, Errorf(CodeInvalidRequest, "module digest %q is not %q and 64 hexadecimal digits", s, digestPrefix)
	}
	if _, err := hex.Decode(d[:], []byte(raw)); err != nil {
		return Digest{}, Errorf(CodeInvalidRequest, "module digest %q: %v", s, err)
	}
	return d, nil
}

// Time is nanoseconds since the Unix epoch, UTC; zero means unset. The
// replicated state keeps this rather than [time.Time], whose location and
// monotonic part differ between peers.
type Time int64

// TimeOf converts t.
func TimeOf(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	return Time(t.UnixNano())
}

// Std converts back, in UTC; the zero Time gives the zero [time.Time].
func (t Time) Std() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(t)).UTC()
}
