package wasmatrix

import (
	"slices"
	"strings"
)

// ConstraintOp relates a node's label to the values of a [Constraint].
type ConstraintOp uint8

// The operators, and how a constraint with each is written.
const (
	ConstraintEquals    ConstraintOp = iota // key=value
	ConstraintNotEquals                     // key!=value, also where the label is absent
	ConstraintIn                            // key in (a,b)
	ConstraintNotIn                         // key notin (a,b), also where the label is absent
	ConstraintExists                        // key
	ConstraintAbsent                        // !key
)

// Constraint restricts placement to nodes whose labels satisfy it. Besides the
// labels of its configuration every node has "node", its ID.
type Constraint struct {
	Key    string
	Op     ConstraintOp
	Values []string
}

// LabelNode is the label that every node has, with its ID as the value.
const LabelNode = "node"

// Matches reports whether labels satisfy c.
func (c Constraint) Matches(labels map[string]string) bool {
	v, ok := labels[c.Key]
	switch c.Op {
	case ConstraintEquals, ConstraintIn:
		return ok && slices.Contains(c.Values, v)
	case ConstraintNotEquals, ConstraintNotIn:
		return !ok || !slices.Contains(c.Values, v)
	case ConstraintExists:
		return ok
	case ConstraintAbsent:
		return !ok
	default:
		return false
	}
}

// String writes c as [ParseConstraint] reads it.
func (c Constraint) String() string {
	switch c.Op {
	case ConstraintEquals:
		return c.Key + "=" + strings.Join(c.Values, ",")
	case ConstraintNotEquals:
		return c.Key + "!=" + strings.Join(c.Values, ",")
	case ConstraintIn:
		return c.Key + " in (" + strings.Join(c.Values, ",") + ")"
	case ConstraintNotIn:
		return c.Key + " notin (" + strings.Join(c.Values, ",") + ")"
	case ConstraintAbsent:
		return "!" + c.Key
	default:
		return c.Key
	}
}

// Validate reports E6 for a bad key, operator or set of values.
func (c Constraint) Validate() error {
	if err := validateName("constraint key", c.Key); err != nil {
		return Errorf(CodeValidation, "%s", AsError(err).Message).With(DetailField, "constraints")
	}
	want := -1 // any number but none
	switch c.Op {
	case ConstraintEquals, ConstraintNotEquals:
		want = 1
	case ConstraintIn, ConstraintNotIn:
	case ConstraintExists, ConstraintAbsent:
		want = 0
	default:
		return Errorf(CodeValidation, "constraint on %q has an unknown operator", c.Key).With(DetailField, "constraints")
	}
	if want < 0 && len(c.Values) == 0 || want >= 0 && len(c.Values) != want {
		return Errorf(CodeValidation, "constraint %q has %d values", c.String(), len(c.Values)).With(DetailField, "constraints")
	}
	for _, v := range c.Values {
		if len(v) > MaxLabelValue || strings.ContainsAny(v, "\x00(),") || v != strings.TrimSpace(v) {
			return Errorf(CodeValidation, "constraint on %q: a value has at most %d bytes, no NUL, comma or parenthesis, and no white space around it", c.Key, MaxLabelValue).With(DetailField, "constraints")
		}
	}
	return nil
}

// ParseConstraint reads one of the forms shown at the operators, such as
// "zone=a", "zone in (a,b)" or "!gpu". Errors are E6.
func ParseConstraint(s string) (Constraint, error) {
	c, ok := splitConstraint(strings.TrimSpace(s))
	if !ok {
		return Constraint{}, Errorf(CodeValidation, `constraint %q is not of the form key=value, key!=value, key in (a,b), key notin (a,b), key or !key`, s).With(DetailField, "constraints")
	}
	if err := c.Validate(); err != nil {
		return Constraint{}, err
	}
	return c, nil
}

func splitConstraint(s string) (Constraint, bool) {
	if key, ok := strings.CutPrefix(s, "!"); ok {
		return Constraint{Key: strings.TrimSpace(key), Op: ConstraintAbsent}, true
	}
	// What ends the key says what the rest is, so that values may hold operators.
	end := strings.IndexAny(s, " \t!=")
	if end < 0 {
		return Constraint{Key: s, Op: ConstraintExists}, s != ""
	}
	key, rest := s[:end], strings.TrimSpace(s[end:])
	if v, ok := strings.CutPrefix(rest, "!="); ok {
		return Constraint{Key: key, Op: ConstraintNotEquals, Values: []string{strings.TrimSpace(v)}}, true
	}
	if v, ok := strings.CutPrefix(rest, "="); ok {
		return Constraint{Key: key, Op: ConstraintEquals, Values: []string{strings.TrimSpace(v)}}, true
	}
	word, set, _ := strings.Cut(rest, "(")
	set, closed := strings.CutSuffix(strings.TrimSpace(set), ")")
	if !closed {
		return Constraint{}, false
	}
	c := Constraint{Key: key}
	switch strings.TrimSpace(word) {
	case "in":
		c.Op = ConstraintIn
	case "notin":
		c.Op = ConstraintNotIn
	default:
		return Constraint{}, false
	}
	for v := range strings.SplitSeq(set, ",") {
		c.Values = append(c.Values, strings.TrimSpace(v))
	}
	return c, true
}
