package capability

import "time"

// Limits bound what one instance may ask of providers. Zero in a field means the
// default.
type Limits struct {
	Calls      int           // begun a second, and as many at once; default 10,000
	Concurrent int           // under way, open requests and subscriptions included; default 128
	Bytes      int           // to and from providers a second, and as many at once; default 64 MiB
	Deadline   time.Duration // of one call, but for http requests and subscriptions; default 30 s
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.Calls, 10_000)
	setDefault(&l.Concurrent, 128)
	setDefault(&l.Bytes, 64<<20)
	setDefault(&l.Deadline, 30*time.Second)
	return l
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}
