package config

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/wasmatrix/wasmatrix"
)

var durationType = reflect.TypeFor[time.Duration]()

// kind names the type of a key as a user would.
func (f field) kind() string {
	switch {
	case f.block:
		return "a block"
	case f.value.Type() == durationType:
		return `a duration such as "300ms"`
	case f.size:
		return `a size such as "64MiB"`
	}
	switch f.value.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list of strings"
	case reflect.Map:
		return "a map of strings"
	default:
		return "a whole number"
	}
}

// setText sets the key from text, as an environment variable or a flag has it:
// lists are separated by commas, maps are key=value separated by commas.
func (f field) setText(text string) error {
	switch {
	case f.value.Type() == durationType:
		return f.setDuration(text)
	case f.size:
		return f.setSize(text)
	}
	switch f.value.Kind() {
	case reflect.String:
		f.value.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return f.not(strconv.Quote(text))
		}
		f.value.SetBool(b)
	case reflect.Slice:
		f.value.Set(reflect.ValueOf(splitList(text)))
	case reflect.Map:
		m := map[string]string{}
		for _, item := range splitList(text) {
			k, v, ok := strings.Cut(item, "=")
			if !ok {
				return fmt.Errorf("%q is not of the form key=value", item)
			}
			m[k] = v
		}
		f.value.Set(reflect.ValueOf(m))
	default:
		n, _, err := big.ParseFloat(text, 10, 128, big.ToNearestEven)
		if err != nil {
			return f.not(strconv.Quote(text))
		}
		return f.setNumber(n)
	}
	return nil
}

// setCty sets the key from a value of an HCL file.
func (f field) setCty(v cty.Value) error {
	if v.IsNull() || !v.IsWhollyKnown() {
		return f.not("null")
	}
	switch {
	case f.value.Type() == durationType:
		if v.Type() == cty.String {
			return f.setDuration(v.AsString())
		}
	case f.size:
		if v.Type() == cty.String {
			return f.setSize(v.AsString())
		}
		if v.Type() == cty.Number {
			return f.setNumber(v.AsBigFloat())
		}
	default:
		return f.setPlain(v)
	}
	return f.not(v.Type().FriendlyName())
}

func (f field) setPlain(v cty.Value) error {
	typ := v.Type()
	switch f.value.Kind() {
	case reflect.String:
		if typ == cty.String {
			f.value.SetString(v.AsString())
			return nil
		}
	case reflect.Bool:
		if typ == cty.Bool {
			f.value.SetBool(v.True())
			return nil
		}
	case reflect.Slice:
		if typ.IsTupleType() || typ.IsListType() {
			list := []string{}
			for _, item := range v.AsValueSlice() {
				if item.IsNull() || item.Type() != cty.String {
					return f.not("a list with " + describe(item))
				}
				list = append(list, item.AsString())
			}
			f.value.Set(reflect.ValueOf(list))
			return nil
		}
	case reflect.Map:
		if typ.IsObjectType() || typ.IsMapType() {
			m := map[string]string{}
			for k, item := range v.AsValueMap() {
				if item.IsNull() || item.Type() != cty.String {
					return f.not(fmt.Sprintf("a map with %s under %q", describe(item), k))
				}
				m[k] = item.AsString()
			}
			f.value.Set(reflect.ValueOf(m))
			return nil
		}
	default:
		if typ == cty.Number {
			return f.setNumber(v.AsBigFloat())
		}
	}
	return f.not(typ.FriendlyName())
}

func describe(v cty.Value) string {
	if v.IsNull() {
		return "null"
	}
	return v.Type().FriendlyName()
}

func (f field) setDuration(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		return f.not(strconv.Quote(text))
	}
	f.value.SetInt(int64(d))
	return nil
}

func (f field) setSize(text string) error {
	n, err := wasmatrix.ParseBytes(text)
	if err != nil {
		return errors.New(wasmatrix.AsError(err).Message)
	}
	f.value.SetUint(n)
	return nil
}

func (f field) setNumber(n *big.Float) error {
	i, acc := n.Int64()
	if !n.IsInt() || acc != big.Exact || i < 0 || f.value.CanInt() && i > math.MaxInt32 {
		return f.not(numberText(n))
	}
	if f.value.CanUint() {
		f.value.SetUint(uint64(i))
	} else {
		f.value.SetInt(i)
	}
	return nil
}

// numberText writes a number, unless that would take long: the decimal digits of
// 1e1000000000 do.
func numberText(n *big.Float) string {
	const digits = 20
	if exp := n.MantExp(nil); exp > 2000 || exp < -2000 {
		return "one so far from 1"
	}
	return n.Text('g', digits)
}

func (f field) not(what string) error { return fmt.Errorf("must be %s, not %s", f.kind(), what) }

func splitList(text string) []string {
	list := []string{}
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}
