package store

import (
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

// small bounds make windows and limits matter in short runs.
var small = Options{MaxWrites: 12, WriteWindow: 30 * time.Second}

type command interface{ Encode() ([]byte, error) }

func must(c command) []byte {
	b, err := c.Encode()
	if err != nil {
		panic(err)
	}
	return b
}

// drawer draws commands on few keys, so that they meet.
type drawer struct {
	now  wasmatrix.Time
	last uint64 // a revision that was given not long ago
}

func (d *drawer) draw(t *rapid.T) command {
	// Clocks of several proposers run apart.
	d.now += wasmatrix.Time(rapid.IntRange(-3, 10).Draw(t, "seconds")) * wasmatrix.Time(time.Second)
	d.now = max(d.now, 1)
	caller := Caller{
		Instance:    wasmatrix.InstanceID(rapid.SampledFrom([]string{"i", "j"}).Draw(t, "instance")),
		Incarnation: rapid.Uint64Range(1, 2).Draw(t, "incarnation"),
		Epoch:       rapid.Uint64Range(1, 4).Draw(t, "epoch"),
		Exclusive:   rapid.Bool().Draw(t, "exclusive"),
	}
	ns := drawNamespace(t)
	key := rapid.SampledFrom([]string{"a", "b", "c", "ä", "a/1"}).Draw(t, "key")
	var id [16]byte
	if n := rapid.IntRange(0, 30).Draw(t, "id"); n < 20 {
		copy(id[:], fmt.Sprintf("%016d", n+1))
	}
	switch rapid.IntRange(0, 19).Draw(t, "kind") {
	default:
		c := &Set{
			At: d.now, Caller: caller, Namespace: ns, Key: key, ID: id,
			Value: []byte(rapid.SampledFrom([]string{"", "v", "value", "a longer value"}).Draw(t, "value")),
			TTL:   time.Duration(rapid.SampledFrom([]int{0, 0, 1, 5, 20}).Draw(t, "ttl")) * time.Second,
			Quota: Quota{Keys: rapid.Uint64Range(1, 5).Draw(t, "keys"), Bytes: rapid.Uint64Range(5, 60).Draw(t, "bytes")},
		}
		if rapid.IntRange(0, 2).Draw(t, "swap") == 0 {
			c.Expect = new(rapid.SampledFrom([]uint64{0, d.last, d.last, 1}).Draw(t, "expect"))
		}
		return c
	case 0, 1, 2, 3:
		return &Delete{At: d.now, Caller: caller, Namespace: ns, Key: key, ID: id}
	case 4:
		return &RaiseFences{At: d.now, Fences: []Fence{{caller.Instance, caller.Incarnation, caller.Epoch}, {"j", 1, 2}}}
	case 5, 6:
		return &Expire{At: d.now, Limit: rapid.Uint32Range(0, 4).Draw(t, "limit")}
	case 7:
		return &Drop{
			At: d.now, Namespaces: []Namespace{ns, drawNamespace(t)}, Limit: rapid.Uint32Range(0, 4).Draw(t, "limit"),
			Fences: []Fence{{Instance: caller.Instance, Incarnation: caller.Incarnation}},
		}
	}
}

func drawNamespace(t *rapid.T) Namespace {
	return rapid.SampledFrom([]Namespace{{"kv", "own/i/1"}, {"kv", "own/i/10"}, {"kv", "shared/x"}, {"other", "shared/x"}}).Draw(t, "namespace")
}
