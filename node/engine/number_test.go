package engine

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"
	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

// TestNumbersGoThroughAGuest and come back as they were, in the way that results
// are written.
func TestNumbersGoThroughAGuest(t *testing.T) {
	t.Parallel()
	r := runReactor(t, newEngine(t, Config{}), "numbers", RunConfig{})
	for _, tt := range []struct{ function, arg, want string }{
		{"i32", "0", "0"},
		{"i32", "-0", "0"},
		{"i32", "+7", "7"},
		{"i32", "2147483647", "2147483647"},
		{"i32", "2147483648", "-2147483648"}, // as an unsigned number
		{"i32", "-2147483648", "-2147483648"},
		{"i32", "4294967295", "-1"},
		{"i64", "9223372036854775807", "9223372036854775807"},
		{"i64", "9223372036854775808", "-9223372036854775808"},
		{"i64", "-9223372036854775808", "-9223372036854775808"},
		{"i64", "18446744073709551615", "-1"},
		{"f32", "0.1", "0.1"},
		{"f32", "16777217", "1.6777216e+07"}, // rounded to what an f32 can say
		{"f32", "3.4028234663852886e38", "3.4028235e+38"},
		{"f32", "1e-45", "1e-45"},
		{"f32", "-0", "-0"},
		{"f32", "NaN", "NaN"},
		{"f32", "Inf", "Inf"},
		{"f32", "-Infinity", "-Inf"},
		{"f64", "0.1", "0.1"},
		{"f64", "1.7976931348623157e308", "1.7976931348623157e+308"},
		{"f64", "5e-324", "5e-324"},
		{"f64", "-0", "-0"},
		{"f64", "nan", "NaN"},
		{"f64", "+Inf", "Inf"},
		{"f64", "-Inf", "-Inf"},
	} {
		res, err := r.call(tt.function, tt.arg)
		if want := []string{tt.function + " " + tt.want}; err != nil || !slices.Equal(texts(res), want) {
			t.Errorf("%s(%s) = %v, %v; want %s", tt.function, tt.arg, texts(res), err, want)
		}
	}

	res, err := r.call("turned", "-1", "-2", "-0.5", "1e300")
	if want := []string{"f64 1e+300", "f32 -0.5", "i64 -2", "i32 -1"}; err != nil || !slices.Equal(texts(res), want) {
		t.Errorf("several results: %q, %v; want %q", texts(res), err, want)
	}
	if res, err := r.call("nothing"); err != nil || len(res.Results) != 0 || res.Data != nil {
		t.Errorf("none: %+v, %v", res, err)
	}
	// Fewer results than parameters, and more.
	if res, err := r.call("one_of_two", "5", "6"); err != nil || !slices.Equal(texts(res), []string{"i32 5"}) {
		t.Errorf("one of two: %q, %v", texts(res), err)
	}
	if res, err := r.call("two_of_one", "5"); err != nil || !slices.Equal(texts(res), []string{"i32 5", "i32 5"}) {
		t.Errorf("two of one: %q, %v", texts(res), err)
	}
}

// TestCallsThatAreRefused: each is told what is wrong, and the reactor goes on.
func TestCallsThatAreRefused(t *testing.T) {
	t.Parallel()
	e := newEngine(t, Config{})
	numbers, bytes := runReactor(t, e, "numbers", RunConfig{}), runReactor(t, e, "bytes", RunConfig{})
	for _, tt := range []struct {
		name, function string
		args           []string
		field, message string
	}{
		{"no such function", "nobody", nil, "function", `exports no function "nobody"`},
		{"what is exported and no function", "memory", nil, "function", "exports no function"},
		{"too few", "turned", []string{"1", "2", "3"}, "args", "(i32, i64, f32, f64) -> (f64, f32, i64, i32) and was given 3 arguments"},
		{"too many", "nothing", []string{"1"}, "args", "() -> () and was given 1 arguments"},
		{"none", "i32", nil, "args", "given 0 arguments"},
		{"over i32", "i32", []string{"4294967296"}, "args", `argument 1 of function "i32": "4294967296" is no i32`},
		{"under i32", "i32", []string{"-2147483649"}, "args", "is no i32"},
		{"over i64", "i64", []string{"18446744073709551616"}, "args", "is no i64"},
		{"under i64", "i64", []string{"-9223372036854775809"}, "args", "is no i64"},
		{"a fraction", "i32", []string{"1.0"}, "args", "is no i32"},
		{"hexadecimal", "i64", []string{"0x10"}, "args", "is no i64"},
		{"empty", "i32", []string{""}, "args", "is no i32"},
		{"space", "f64", []string{" 1"}, "args", "is no f64"},
		{"word", "f64", []string{"one"}, "args", "is no f64"},
		{"over f32", "f32", []string{"3.5e38"}, "args", "is no f32"},
		{"over f64", "f64", []string{"1e309"}, "args", "is no f64"},
		{"the second", "one_of_two", []string{"1", "x"}, "args", `argument 2 of function "one_of_two": "x" is no i64`},
		{"takes a reference", "takes_extern", []string{"1"}, "function", "(externref) -> () has more than numbers"},
		{"gives a reference", "gives_extern", nil, "function", "more than numbers"},
		{"takes a function", "takes_func", []string{"1", "2"}, "function", "more than numbers"},
		{"gives a function", "gives_func", nil, "function", "more than numbers"},
		{"takes a vector", "takes_vector", []string{"1"}, "function", "more than numbers"},
		{"gives a vector", "gives_vector", nil, "function", "more than numbers"},
	} {
		r := numbers
		if tt.function == "memory" {
			r = bytes
		}
		_, err := r.call(tt.function, tt.args...)
		refused(t, tt.name, err, tt.field, tt.message)
	}
	for function, message := range map[string]string{
		"nobody": "exports no function", "load": "(i32) -> (i32)", "two": "() -> (i32, i32)", "wide": "() -> (i64)",
	} {
		field := "data"
		if function == "nobody" {
			field = "function"
		}
		_, err := bytes.bytes(function, []byte("x"))
		refused(t, "bytes to "+function, err, field, message)
	}
	if res, err := numbers.call("i32", "5"); err != nil || !slices.Equal(texts(res), []string{"i32 5"}) {
		t.Errorf("afterwards: %q, %v", texts(res), err)
	}
}

func refused(t *testing.T, name string, err error, field, message string) {
	t.Helper()
	e := wasmatrix.AsError(err)
	if e == nil || e.Code != wasmatrix.CodeValidation || e.Details[wasmatrix.DetailField] != field || !strings.Contains(e.Message, message) {
		t.Errorf("%s: %v, want a refusal of %s with %q", name, err, field, message)
		return
	}
	if e.Details["kind"] != "" || e.Details[wasmatrix.DetailOutcome] != "" {
		t.Errorf("%s: %v says that something has happened: %v", name, err, e.Details)
	}
}

// TestNumbersAreReadAsTheyAreWritten for every value of every type: what numbers
// writes encode reads to the same bits, but for those of a NaN, which have no text.
func TestNumbersAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		typ := rapid.SampledFrom([]api.ValueType{api.ValueTypeI32, api.ValueTypeI64, api.ValueTypeF32, api.ValueTypeF64}).Draw(t, "type")
		v := rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{
			0, 1 << 31, 1<<31 - 1, 1<<32 - 1, 1 << 63, 1<<63 - 1, math.MaxUint64,
			api.EncodeF32(float32(math.Copysign(0, -1))), api.EncodeF64(math.Copysign(0, -1)),
			api.EncodeF32(float32(math.Inf(1))), api.EncodeF64(math.Inf(-1)),
			api.EncodeF32(math.SmallestNonzeroFloat32), api.EncodeF64(math.MaxFloat64),
		})).Draw(t, "bits")
		if numberBits(typ) == 32 {
			v = uint64(uint32(v))
		}
		text := numbers([]api.ValueType{typ}, []uint64{v})[0].Text
		got, err := encode(typ, text)
		if err != nil {
			t.Fatalf("%s %#x is written as %q: %v", api.ValueTypeName(typ), v, text, err)
		}
		nan := typ == api.ValueTypeF32 && math.IsNaN(float64(api.DecodeF32(v))) || typ == api.ValueTypeF64 && math.IsNaN(api.DecodeF64(v))
		if nan && text != "NaN" || !nan && got != v {
			t.Fatalf("%s %#x is written as %q and read as %#x", api.ValueTypeName(typ), v, text, got)
		}
		// Integers may be unsigned, too.
		if typ == api.ValueTypeI32 || typ == api.ValueTypeI64 {
			if got, err := encode(typ, strconv.FormatUint(v, 10)); err != nil || got != v {
				t.Fatalf("%d is read as %d, %v", v, got, err)
			}
		}
	})
}
