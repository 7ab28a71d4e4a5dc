package kv

import (
	"time"
	"unicode/utf8"

	"github.com/wasmatrix/wasmatrix"
	"github.com/wasmatrix/wasmatrix/abi"
	"github.com/wasmatrix/wasmatrix/capability"
)

// The checks of what is asked, which all implementations share. They come before
// anything happens.

func invalid(field, format string, args ...any) error {
	return wasmatrix.Errorf(wasmatrix.CodeInvalidRequest, format, args...).With(wasmatrix.DetailField, field)
}

func checkKey(key string) error {
	switch {
	case key == "":
		return invalid("key", "the key is empty")
	case len(key) > abi.MaxKey:
		return invalid("key", "the key has %d bytes, at most %d are allowed", len(key), abi.MaxKey)
	case !utf8.ValidString(key):
		return invalid("key", "the key is not valid UTF-8")
	}
	return nil
}

func checkSet(key string, value []byte, o capability.SetOptions, maxValue int64) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if o.TTL < 0 {
		return invalid("ttl", "the time to live is below zero")
	}
	if int64(len(value)) > maxValue {
		return wasmatrix.Errorf(wasmatrix.CodeResourceExhausted, "the value has %d bytes, at most %d are allowed", len(value), maxValue)
	}
	return nil
}

func checkList(q capability.ListQuery) error {
	switch {
	case q.Limit < 1 || q.Limit > abi.MaxListLimit:
		return invalid("limit", "the limit is %d, and may be from 1 to %d", q.Limit, abi.MaxListLimit)
	case len(q.Prefix) > abi.MaxKey || !utf8.ValidString(q.Prefix):
		return invalid("prefix", "the prefix is longer than %d bytes, or not valid UTF-8", abi.MaxKey)
	case len(q.After) > abi.MaxKey || !utf8.ValidString(q.After):
		return invalid("after", "what to list after is longer than %d bytes, or not valid UTF-8", abi.MaxKey)
	}
	return nil
}

// checkScope checks the permission again, on the side that carries the call out.
func checkScope(s *capability.Scope, a wasmatrix.Access, subject string) error {
	if s.Rules == nil || !s.Rules.Allow(a, subject) {
		return wasmatrix.Errorf(wasmatrix.CodePermissionDenied, "capability %s of instance %s does not allow %s of %q", s.Capability, s.Instance, a, subject)
	}
	return nil
}

// checkAlive is asked as late as can be.
func checkAlive(s *capability.Scope) error {
	if s.Alive != nil && !s.Alive() {
		return wasmatrix.Errorf(wasmatrix.CodeProviderUnavailable, "the node's lease has run out").With(wasmatrix.DetailOutcome, wasmatrix.OutcomeNone)
	}
	return nil
}

// maxTTL is for ever, or nearly, and leaves room to be added to a time.
const maxTTL = 100 * 365 * 24 * time.Hour
