package agent

import (
	"time"

	"github.com/wasmatrix/wasmatrix"
)

// ending runs end, which closes a process in good order. It gives up on it after
// d, or as soon as something has failed for good: a disk that hangs or a guest
// that cannot be interrupted must not keep a process that is to go. The error
// says so; end may still be running then, and the process has to exit.
func ending(d time.Duration, fatal <-chan error, end func()) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		end()
	}()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case err := <-fatal:
		return err
	case <-timer.C:
		return wasmatrix.Errorf(wasmatrix.CodeTimeout, "this process did not end in good order within %s, and was cut off", d)
	}
}
