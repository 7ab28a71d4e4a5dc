package wasmatrix_test

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasmatrix/wasmatrix"
)

func TestParseConstraint(t *testing.T) {
	type c = wasmatrix.Constraint
	for s, want := range map[string]c{
		"zone=a":             {Key: "zone", Op: wasmatrix.ConstraintEquals, Values: []string{"a"}},
		" zone = a b ":       {Key: "zone", Op: wasmatrix.ConstraintEquals, Values: []string{"a b"}},
		"zone=":              {Key: "zone", Op: wasmatrix.ConstraintEquals, Values: []string{""}},
		"zone=a=b":           {Key: "zone", Op: wasmatrix.ConstraintEquals, Values: []string{"a=b"}},
		"zone=a!=b":          {Key: "zone", Op: wasmatrix.ConstraintEquals, Values: []string{"a!=b"}},
		"zone!=a":            {Key: "zone", Op: wasmatrix.ConstraintNotEquals, Values: []string{"a"}},
		"zone != a":          {Key: "zone", Op: wasmatrix.ConstraintNotEquals, Values: []string{"a"}},
		"zone in (a,b)":      {Key: "zone", Op: wasmatrix.ConstraintIn, Values: []string{"a", "b"}},
		"zone in(a)":         {Key: "zone", Op: wasmatrix.ConstraintIn, Values: []string{"a"}},
		"zone  in  ( a , b)": {Key: "zone", Op: wasmatrix.ConstraintIn, Values: []string{"a", "b"}},
		"zone in (a=b,!c)":   {Key: "zone", Op: wasmatrix.ConstraintIn, Values: []string{"a=b", "!c"}},
		"zone in ()":         {Key: "zone", Op: wasmatrix.ConstraintIn, Values: []string{""}},
		"zone notin (a)":     {Key: "zone", Op: wasmatrix.ConstraintNotIn, Values: []string{"a"}},
		"in in (in)":         {Key: "in", Op: wasmatrix.ConstraintIn, Values: []string{"in"}},
		"gpu":                {Key: "gpu", Op: wasmatrix.ConstraintExists},
		"!gpu":               {Key: "gpu", Op: wasmatrix.ConstraintAbsent},
		"! gpu":              {Key: "gpu", Op: wasmatrix.ConstraintAbsent},
	} {
		got, err := wasmatrix.ParseConstraint(s)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q is %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{
		"", " ", "!", "=a", "!=a", "a b", "a in", "a in b", "a in (b", "a in b)", "a in (b) c", "a within (b)",
		"a in ((b))", "-a", "a/b=c", "a=b,c", "a=(b)", "a=\x00", "!a=b", "a!b",
		strings.Repeat("k", 65) + "=v", "a=" + strings.Repeat("v", 257),
	} {
		got, err := wasmatrix.ParseConstraint(s)
		if wasmatrix.CodeOf(err) != wasmatrix.CodeValidation || wasmatrix.AsError(err).Details[wasmatrix.DetailField] != "constraints" {
			t.Errorf("%q is %+v, %v", s, got, err)
		}
	}
}

func drawConstraint(t *rapid.T) wasmatrix.Constraint {
	value := rapid.OneOf(
		rapid.StringMatching(`[a-z0-9]{0,5}`),
		rapid.StringMatching(`([a-z=!.é]([a-z=! é]{0,6}[a-z=!])?)?`),
	)
	c := wasmatrix.Constraint{
		Key: rapid.OneOf(rapid.Just("in"), rapid.StringMatching(`[a-zA-Z0-9][a-zA-Z0-9._-]{0,8}`)).Draw(t, "key"),
		Op:  wasmatrix.ConstraintOp(rapid.IntRange(0, 5).Draw(t, "op")),
	}
	switch c.Op {
	case wasmatrix.ConstraintEquals, wasmatrix.ConstraintNotEquals:
		c.Values = []string{value.Draw(t, "value")}
	case wasmatrix.ConstraintIn, wasmatrix.ConstraintNotIn:
		c.Values = rapid.SliceOfN(value, 1, 4).Draw(t, "values")
	default:
	}
	return c
}

func TestConstraintIsReadAsItIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawConstraint(t)
		if err := c.Validate(); err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		back, err := wasmatrix.ParseConstraint(c.String())
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Fatalf("%+v, written %q, is read as %+v, %v", c, c, back, err)
		}
	})
}

func FuzzParseConstraint(f *testing.F) {
	for _, s := range []string{"zone=a", "zone!=a", "zone in (a,b)", "zone notin (a=b,)", "gpu", "!gpu"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := wasmatrix.ParseConstraint(s)
		if err != nil {
			if wasmatrix.CodeOf(err) != wasmatrix.CodeValidation {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		back, err := wasmatrix.ParseConstraint(c.String())
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%q is %+v, written %q, read as %+v, %v", s, c, c, back, err)
		}
	})
}

func TestConstraintMatches(t *testing.T) {
	labels := map[string]string{"zone": "a", "empty": ""}
	for s, want := range map[string]bool{
		"zone=a": true, "zone=b": false, "none=a": false, "none=": false, "empty=": true,
		"zone!=a": false, "zone!=b": true, "none!=a": true,
		"zone in (b,a)": true, "zone in (b,c)": false, "none in (a)": false,
		"zone notin (a)": false, "zone notin (b)": true, "none notin (a)": true,
		"zone": true, "empty": true, "none": false, "!zone": false, "!none": true,
	} {
		c, err := wasmatrix.ParseConstraint(s)
		if err != nil || c.Matches(labels) != want {
			t.Errorf("%q matches: %v, %v", s, c.Matches(labels), err)
		}
	}
	if (wasmatrix.Constraint{Key: "zone", Op: 99}).Matches(labels) {
		t.Error("an unknown operator matches")
	}
}

// Each operator and its opposite divide all nodes between them.
func TestConstraintsAndTheirOpposites(t *testing.T) {
	opposite := map[wasmatrix.ConstraintOp]wasmatrix.ConstraintOp{
		wasmatrix.ConstraintEquals: wasmatrix.ConstraintNotEquals,
		wasmatrix.ConstraintIn:     wasmatrix.ConstraintNotIn,
		wasmatrix.ConstraintExists: wasmatrix.ConstraintAbsent,
	}
	rapid.Check(t, func(t *rapid.T) {
		c := drawConstraint(t)
		other, ok := opposite[c.Op]
		if !ok {
			t.Skip("an opposite itself")
		}
		values := []string{"elsewhere"}
		labels := map[string]string{}
		if rapid.Bool().Draw(t, "labelled") {
			labels[c.Key] = rapid.SampledFrom(append(values, c.Values...)).Draw(t, "label")
		}
		o := wasmatrix.Constraint{Key: c.Key, Op: other, Values: c.Values}
		if c.Matches(labels) == o.Matches(labels) {
			t.Fatalf("%q and %q agree on %v", c, o, labels)
		}
	})
}
