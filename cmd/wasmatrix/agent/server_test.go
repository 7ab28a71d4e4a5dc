package agent

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/wasmatrix/wasmatrix/cluster"
	"github.com/wasmatrix/wasmatrix/cmd/wasmatrix/config"
)

// Every key of the blocks that configure the Raft group must reach the group: a
// key that is read, checked and then forgotten is worse than none.
func TestEveryKeyOfTheGroupReachesIt(t *testing.T) {
	made := func(change func(*config.Config)) string {
		cfg := config.Default()
		change(cfg)
		s := &server{cfg: cfg, log: hclog.NewNullLogger()}
		return describe(s.clusterConfig("dir", "api"))
	}
	before := made(func(*config.Config) {})
	for _, block := range []func(*config.Config) reflect.Value{
		func(c *config.Config) reflect.Value { return reflect.ValueOf(&c.Server.Raft).Elem() },
		func(c *config.Config) reflect.Value { return reflect.ValueOf(&c.Server.Autopilot).Elem() },
	} {
		kind := block(config.Default()).Type()
		for i := range kind.NumField() {
			after := made(func(c *config.Config) {
				switch f := block(c).Field(i); f.Kind() {
				case reflect.Bool:
					f.SetBool(!f.Bool())
				case reflect.Uint64:
					f.SetUint(f.Uint() + 1)
				default:
					f.SetInt(f.Int() + 1)
				}
			})
			if after == before {
				t.Errorf("%s.%s changes nothing", kind.Name(), kind.Field(i).Name)
			}
		}
	}
}

// describe is the part of a configuration that has no identity: functions,
// machines and loggers differ each time.
func describe(c cluster.Config) string {
	c.Machine, c.Verify, c.OnFatal, c.OnRemoved, c.Logger = nil, nil, nil, nil, nil
	return fmt.Sprintf("%+v", c)
}
