package compile

import (
	"time"

	"github.com/wasmatrix/wasmatrix"
)

const (
	// failureLife is how long a failure is answered without trying again: an
	// instance that is restarted for ever must not have the same bomb compiled
	// for ever.
	failureLife = time.Minute
	maxFailures = 1024
)

// failures are modules that could not be compiled. It is guarded by Cache.mu.
type failures struct{ byKey map[string]failure }

type failure struct {
	err   *wasmatrix.Error
	until time.Time
}

// find returns the failure of a module that is not to be tried again yet, or nil.
func (f *failures) find(key string) error {
	old, ok := f.byKey[key]
	if !ok {
		return nil
	}
	if time.Now().After(old.until) {
		delete(f.byKey, key)
		return nil
	}
	return wasmatrix.Errorf(old.err.Code, "%s (found at %s, and not tried again before %s)", old.err.Message,
		old.until.Add(-failureLife).UTC().Format(time.TimeOnly), old.until.UTC().Format(time.TimeOnly))
}

// add notes a failure that is the module's own.
func (f *failures) add(key string, err error) {
	e := wasmatrix.AsError(err)
	if e.Code != wasmatrix.CodeWasmRuntime && e.Code != wasmatrix.CodeResourceExhausted {
		return
	}
	if f.byKey == nil {
		f.byKey = make(map[string]failure)
	}
	now := time.Now()
	if len(f.byKey) >= maxFailures {
		for k, old := range f.byKey {
			if now.After(old.until) || len(f.byKey) >= maxFailures {
				delete(f.byKey, k)
			}
		}
	}
	f.byKey[key] = failure{e, now.Add(failureLife)}
}
