package wasmatrix_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

func TestErrorfFindsWhatItWraps(t *testing.T) {
	one := wasmatrix.Errorf(wasmatrix.CodeStorage, "write: %w", io.ErrShortWrite)
	if !errors.Is(one, io.ErrShortWrite) || one.Error() != "STORAGE_ERROR: write: short write" {
		t.Errorf("%v", one)
	}
	two := wasmatrix.Errorf(wasmatrix.CodeStorage, "%w, then %w", io.ErrShortWrite, fs.ErrClosed)
	if !errors.Is(two, io.ErrShortWrite) || !errors.Is(two, fs.ErrClosed) || two.Message != "short write, then file already closed" {
		t.Errorf("%v", two)
	}
	if none := wasmatrix.Errorf(wasmatrix.CodeStorage, "write %d", 1); none.Unwrap() != nil {
		t.Errorf("%v wraps %v", none, none.Unwrap())
	}
	if with := one.With("a", "b"); !errors.Is(with, io.ErrShortWrite) {
		t.Errorf("%v lost its cause by a detail", with)
	}
}

func TestCodeOfTheFirstErrorInTheChain(t *testing.T) {
	inner := wasmatrix.Errorf(wasmatrix.CodeTimeout, "slow")
	var absent *wasmatrix.Error
	for _, c := range []struct {
		err  error
		want wasmatrix.Code
	}{
		{nil, ""},
		{absent, ""},
		{inner, wasmatrix.CodeTimeout},
		{fmt.Errorf("ask: %w", inner), wasmatrix.CodeTimeout},
		{errors.Join(io.EOF, inner), wasmatrix.CodeTimeout},
		{wasmatrix.Errorf(wasmatrix.CodeStorage, "disk: %w", inner), wasmatrix.CodeStorage},
		{context.Canceled, wasmatrix.CodeInternal},
	} {
		if got := wasmatrix.CodeOf(c.err); got != c.want {
			t.Errorf("code of %v is %q, want %q", c.err, got, c.want)
		}
		as := wasmatrix.AsError(c.err)
		if c.want == "" {
			if as != nil {
				t.Errorf("%v became %v", c.err, as)
			}
			continue
		}
		if as.Code != c.want || !errors.Is(as, c.err) && !errors.Is(c.err, as) {
			t.Errorf("%v became %v", c.err, as)
		}
	}
}

func TestWithChangesACopy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		details := rapid.MapOf(rapid.String(), rapid.String())
		before := details.Draw(t, "before")
		e := &wasmatrix.Error{Code: wasmatrix.CodeInternal, Message: "m", Details: maps.Clone(before)}
		key, value := rapid.String().Draw(t, "key"), rapid.String().Draw(t, "value")
		got := e.With(key, value)
		if !maps.Equal(e.Details, before) {
			t.Fatalf("the original has %v now", e.Details)
		}
		want := maps.Clone(before)
		if want == nil {
			want = map[string]string{}
		}
		want[key] = value
		if !maps.Equal(got.Details, want) || got.Code != e.Code || got.Message != e.Message {
			t.Fatalf("got %v, want %v", got.Details, want)
		}
	})
}

func TestCodesAreListedOnceAndFewAreRetryable(t *testing.T) {
	retryable := []wasmatrix.Code{wasmatrix.CodeNotLeader, wasmatrix.CodeNoLeader, wasmatrix.CodeCommunication}
	seen := map[wasmatrix.Code]bool{}
	for _, c := range wasmatrix.Codes {
		if seen[c] {
			t.Errorf("%s is listed twice", c)
		}
		seen[c] = true
		if got := wasmatrix.Errorf(c, "x").Retryable(); got != slices.Contains(retryable, c) {
			t.Errorf("%s retryable: %v", c, got)
		}
	}
	// Section E of the requirements names twenty.
	if len(wasmatrix.Codes) != 20 {
		t.Errorf("%d codes", len(wasmatrix.Codes))
	}
}
