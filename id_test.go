package wasmatrix_test

import (
	"crypto/sha256"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func TestP18_NamesAreWhatTheyMayBe(t *testing.T) {
	for _, s := range []string{
		"", "a", "A.b_c-9", "-a", ".a", "_a", "a b", "a/b", "ä", "a\x00", "\xff", "a\n",
		strings.Repeat("a", 64), strings.Repeat("a", 65),
	} {
		checkName(t, s)
	}
	rapid.Check(t, func(t *rapid.T) {
		checkName(t, rapid.OneOf(rapid.String(), rapid.StringMatching(`[A-Za-z0-9._-]{0,70}`)).Draw(t, "name"))
	})
}

func checkName(t interface{ Errorf(string, ...any) }, s string) {
	want := wasmatrix.Code("")
	if !nameForm.MatchString(s) {
		want = wasmatrix.CodeInvalidRequest
	}
	for what, err := range map[string]error{
		"instance":   wasmatrix.InstanceID(s).Validate(),
		"node":       wasmatrix.NodeID(s).Validate(),
		"capability": wasmatrix.CapabilityID(s).Validate(),
		"provider":   wasmatrix.ProviderID(s).Validate(),
		"name":       wasmatrix.ValidateName("name", s),
	} {
		if wasmatrix.CodeOf(err) != want {
			t.Errorf("%s %q: %v, want %q", what, s, err, want)
		}
	}
}

func TestP18_RequestIDs(t *testing.T) {
	for s, ok := range map[string]bool{
		"": false, "a": true, "6f1/~!#": true, "a b": false, "a\t": false, "\x7f": false, "é": false,
		strings.Repeat("r", 128): true, strings.Repeat("r", 129): false,
	} {
		want := wasmatrix.Code("")
		if !ok {
			want = wasmatrix.CodeInvalidRequest
		}
		if err := wasmatrix.RequestID(s).Validate(); wasmatrix.CodeOf(err) != want {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestDigest(t *testing.T) {
	const empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	d := wasmatrix.DigestOf(nil)
	if d.String() != empty || d.Short() != "e3b0c44298fc" || d.IsZero() || !(wasmatrix.Digest{}).IsZero() {
		t.Errorf("%v, %s", d, d.Short())
	}
	for _, s := range []string{
		"", "sha256:", empty[7:], empty[:len(empty)-1], empty + "0", "sha512:" + empty[7:], "SHA256:" + empty[7:],
		"sha256:g" + empty[8:], " " + empty,
	} {
		if d, err := wasmatrix.ParseDigest(s); wasmatrix.CodeOf(err) != wasmatrix.CodeInvalidRequest || !d.IsZero() {
			t.Errorf("%q is %v, %v", s, d, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := wasmatrix.Digest(rapid.SliceOfN(rapid.Byte(), sha256.Size, sha256.Size).Draw(t, "digest"))
		if back, err := wasmatrix.ParseDigest(d.String()); err != nil || back != d {
			t.Fatalf("%v became %v, %v", d, back, err)
		}
	})
}

func FuzzParseDigest(f *testing.F) {
	f.Add(wasmatrix.DigestOf([]byte("x")).String())
	f.Add("sha256:zz")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := wasmatrix.ParseDigest(s)
		if err != nil {
			return
		}
		if !strings.EqualFold(d.String(), s) {
			t.Errorf("%q became %s", s, d)
		}
	})
}

func TestTimeThereAndBack(t *testing.T) {
	if wasmatrix.TimeOf(time.Time{}) != 0 || !wasmatrix.Time(0).Std().IsZero() {
		t.Error("unset times do not stay unset")
	}
	rapid.Check(t, func(t *rapid.T) {
		at := wasmatrix.Time(rapid.Int64().Draw(t, "time"))
		if back := wasmatrix.TimeOf(at.Std()); back != at {
			t.Fatalf("%d became %d", at, back)
		}
		if at != 0 && at.Std().Location() != time.UTC {
			t.Fatalf("%v", at.Std())
		}
	})
}
