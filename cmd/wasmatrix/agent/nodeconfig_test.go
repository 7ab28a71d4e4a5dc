package agent

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/wasmatrix/wasmatrix/cmd/wasmatrix/config"
)

// TestEveryKeyOfTheNodeReachesARoom changes one key after the other: a limit that
// is read, checked and then forgotten protects nothing.
func TestEveryKeyOfTheNodeReachesARoom(t *testing.T) {
	cfg := config.Default()
	made := func() string {
		return fmt.Sprintf("%+v\n%+v\n%+v", nodeStoreConfig(cfg), engineConfig(cfg), nodeConfig(cfg))
	}
	before := made()
	checkKeys(t, "Node", reflect.ValueOf(&cfg.Node).Elem(), func(key string) {
		if key == "Node.Enabled" { // makes the process that has the rooms
			return
		}
		if made() == before {
			t.Errorf("%s changes nothing", key)
		}
	})
	if made() != before {
		t.Error("the test has left a change")
	}
}

// checkKeys calls check with each value of a block, and of those inside, changed.
func checkKeys(t *testing.T, path string, block reflect.Value, check func(key string)) {
	t.Helper()
	for f, v := range block.Fields() {
		key, old := path+"."+f.Name, reflect.ValueOf(v.Interface())
		switch v.Kind() {
		case reflect.Struct:
			checkKeys(t, key, v, check)
			continue
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.Int, reflect.Int64:
			v.SetInt(v.Int() + 1)
		case reflect.Uint64:
			v.SetUint(v.Uint() + 1)
		case reflect.Map:
			v.Set(reflect.ValueOf(map[string]string{"a": "b"}))
		default:
			t.Fatalf("%s is of kind %s", key, v.Kind())
		}
		check(key)
		v.Set(old)
	}
}

// TestLimitsOfModulesReachTheMeter gives each limit a value of its own: none is
// lost, and none takes another's place.
func TestLimitsOfModulesReachTheMeter(t *testing.T) {
	cfg := config.Default()
	given := reflect.ValueOf(&cfg.Node.ModuleLimits).Elem()
	for i := range given.NumField() {
		given.Field(i).SetUint(uint64(1000 + i))
	}
	limits := engineConfig(cfg).Compile.Limits
	for f, v := range reflect.ValueOf(limits).Fields() {
		from := given.FieldByName(f.Name)
		if !from.IsValid() {
			t.Errorf("%s cannot be configured", f.Name)
			continue
		}
		if v.Uint() != from.Uint() {
			t.Errorf("%s is %d, configured as %d", f.Name, v.Uint(), from.Uint())
		}
	}
	if n := reflect.TypeOf(limits).NumField(); given.NumField() != n {
		t.Errorf("%d limits can be configured, of %d", given.NumField(), n)
	}
}
