package engine

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tetratelabs/wazero/api"

	"github.com/wasmatrix/wasmatrix"
)

// prepare checks a call against the function that it is for, and encodes its
// arguments. The stack that it returns has room for the results.
func prepare(f api.Function, v *wasmatrix.Invocation) ([]uint64, error) {
	if f == nil {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "the module exports no function %q", v.Function).With(wasmatrix.DetailField, "function")
	}
	def := f.Definition()
	params, results := def.ParamTypes(), def.ResultTypes()
	stack := make([]uint64, max(len(params), len(results)))
	if v.Bytes {
		if len(params) > 0 || len(results) > 1 || len(results) == 1 && results[0] != api.ValueTypeI32 {
			return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "function %q takes no data: it has the type %s, not () -> () or () -> (i32)",
				v.Function, signature(params, results)).With(wasmatrix.DetailField, "data")
		}
		return stack, nil
	}
	for _, t := range slices.Concat(params, results) {
		if numberBits(t) == 0 {
			return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "function %q cannot be invoked: its type %s has more than numbers",
				v.Function, signature(params, results)).With(wasmatrix.DetailField, "function")
		}
	}
	if len(v.Args) != len(params) {
		return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "function %q has the type %s and was given %d arguments",
			v.Function, signature(params, results), len(v.Args)).With(wasmatrix.DetailField, "args")
	}
	for i, t := range params {
		n, err := encode(t, v.Args[i])
		if err != nil {
			return nil, wasmatrix.Errorf(wasmatrix.CodeValidation, "argument %d of function %q: %q is no %s",
				i+1, v.Function, v.Args[i], api.ValueTypeName(t)).With(wasmatrix.DetailField, "args")
		}
		stack[i] = n
	}
	return stack, nil
}

func numberBits(t api.ValueType) int {
	switch t {
	case api.ValueTypeI32, api.ValueTypeF32:
		return 32
	case api.ValueTypeI64, api.ValueTypeF64:
		return 64
	default:
		return 0
	}
}

// encode reads a number of a type: an integer may be signed or unsigned.
func encode(t api.ValueType, text string) (uint64, error) {
	bits := numberBits(t)
	if t == api.ValueTypeF32 || t == api.ValueTypeF64 {
		v, err := strconv.ParseFloat(text, bits)
		if err != nil {
			return 0, err
		}
		if bits == 32 {
			return api.EncodeF32(float32(v)), nil
		}
		return api.EncodeF64(v), nil
	}
	if v, err := strconv.ParseInt(text, 10, bits); err == nil {
		if bits == 32 {
			return api.EncodeI32(int32(v)), nil
		}
		return uint64(v), nil
	}
	return strconv.ParseUint(text, 10, bits)
}

// numbers reads results from a stack.
func numbers(types []api.ValueType, stack []uint64) []wasmatrix.Number {
	out := make([]wasmatrix.Number, len(types))
	for i, t := range types {
		out[i] = wasmatrix.Number{Type: api.ValueTypeName(t)}
		switch t {
		case api.ValueTypeI32:
			out[i].Text = strconv.FormatInt(int64(api.DecodeI32(stack[i])), 10)
		case api.ValueTypeI64:
			out[i].Text = strconv.FormatInt(int64(stack[i]), 10)
		case api.ValueTypeF32:
			out[i].Text = float(float64(api.DecodeF32(stack[i])), 32)
		case api.ValueTypeF64:
			out[i].Text = float(api.DecodeF64(stack[i]), 64)
		}
	}
	return out
}

func float(v float64, bits int) string {
	switch {
	case math.IsInf(v, 1):
		return "Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	default:
		return strconv.FormatFloat(v, 'g', -1, bits)
	}
}

// typeName knows those types, too, that the engine does not name.
func typeName(t api.ValueType) string {
	switch t {
	case 0x7b:
		return "v128"
	case 0x70:
		return "funcref"
	default:
		return api.ValueTypeName(t)
	}
}

func signature(params, results []api.ValueType) string {
	list := func(types []api.ValueType) string {
		names := make([]string, len(types))
		for i, t := range types {
			names[i] = typeName(t)
		}
		return "(" + strings.Join(names, ", ") + ")"
	}
	return list(params) + " -> " + list(results)
}
