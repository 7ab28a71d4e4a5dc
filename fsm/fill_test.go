package fsm

import (
	"fmt"
	"reflect"
)

// fillAll gives every field that v reaches a value that is not zero, a
// different one where the type has room. Enumerations get 1, which all have.
func fillAll(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text-%03d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(1)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n) + 0.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillAll(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for k := range v.Len() {
			fillAll(v.Index(k), n)
		}
	case reflect.Array:
		for k := range v.Len() {
			v.Index(k).SetUint(uint64(*n+k) % 251)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fillAll(key, n)
			fillAll(value, n)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			fillAll(field, n)
		}
	default:
		panic("cannot fill " + v.Type().String())
	}
}

// filled returns a T with every field set.
func filled[T any](seed int) T {
	var v T
	fillAll(reflect.ValueOf(&v).Elem(), &seed)
	return v
}

// eachMutation changes one leaf of what v reaches at a time, calls f with the
// leaf's path, and changes it back.
func eachMutation(path string, v reflect.Value, f func(path string)) {
	change := func(to reflect.Value) {
		old := reflect.New(v.Type()).Elem()
		old.Set(v)
		v.Set(to.Convert(v.Type()))
		f(path)
		v.Set(old)
	}
	switch v.Kind() {
	case reflect.String:
		change(reflect.ValueOf(v.String() + "!"))
	case reflect.Bool:
		change(reflect.ValueOf(!v.Bool()))
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		change(reflect.ValueOf(v.Uint() + 1))
	case reflect.Int, reflect.Int32, reflect.Int64:
		change(reflect.ValueOf(v.Int() + 1))
	case reflect.Float64:
		change(reflect.ValueOf(v.Float() + 1))
	case reflect.Pointer:
		eachMutation(path, v.Elem(), f)
		change(reflect.Zero(v.Type()))
	case reflect.Slice, reflect.Array:
		for k := range v.Len() {
			eachMutation(fmt.Sprintf("%s[%d]", path, k), v.Index(k), f)
		}
		if v.Kind() == reflect.Slice {
			change(v.Slice(0, v.Len()-1))
		}
	case reflect.Map:
		shorter := reflect.MakeMap(v.Type())
		renamed := reflect.MakeMap(v.Type())
		changed := reflect.MakeMap(v.Type())
		for k, key := range v.MapKeys() {
			if k > 0 {
				shorter.SetMapIndex(key, v.MapIndex(key))
			}
			renamed.SetMapIndex(reflect.ValueOf(key.String()+"!"), v.MapIndex(key))
			changed.SetMapIndex(key, reflect.ValueOf(v.MapIndex(key).String()+"!"))
		}
		change(shorter)
		change(renamed)
		change(changed)
	case reflect.Struct:
		for field, value := range v.Fields() {
			eachMutation(path+"."+field.Name, value, f)
		}
	default:
		panic("cannot change " + v.Type().String())
	}
}
