package agent

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasmatrix/wasmatrix"
)

func TestNothingKeepsAProcessThatIsToEnd(t *testing.T) {
	failed := errors.New("the disk failed")
	for name, c := range map[string]struct {
		end  func(hang <-chan struct{})
		fail bool
		want func(error) bool
		took time.Duration
	}{
		"in good order":      {func(<-chan struct{}) { time.Sleep(time.Second) }, false, func(err error) bool { return err == nil }, time.Second},
		"it hangs":           {func(hang <-chan struct{}) { <-hang }, false, func(err error) bool { return wasmatrix.CodeOf(err) == wasmatrix.CodeTimeout }, 10 * time.Second},
		"it fails meanwhile": {func(hang <-chan struct{}) { <-hang }, true, func(err error) bool { return errors.Is(err, failed) }, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang, fatal := make(chan struct{}), make(chan error, 1)
				defer close(hang)
				if c.fail {
					time.AfterFunc(2*time.Second, func() { fatal <- failed })
				}
				start := time.Now()
				if err := ending(10*time.Second, fatal, func() { c.end(hang) }); !c.want(err) {
					t.Errorf("ending = %v", err)
				}
				if took := time.Since(start); took != c.took {
					t.Errorf("it took %s, want %s", took, c.took)
				}
			})
		})
	}
}
