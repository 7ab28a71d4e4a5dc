package kvtest

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// register is the state of one key. Where a write was never answered, what there
// is may be one of several.
type register struct {
	exists   bool
	value    string
	revision uint64 // 0 is not known
	highest  uint64 // that was seen; later writes have a higher one
}

// is reports whether the entry may have a revision.
func (r register) is(revision uint64) bool {
	if revision == 0 {
		return !r.exists
	}
	if r.revision == 0 {
		return r.exists && revision > r.highest
	}
	return r.exists && revision == r.revision
}

// seen is the register once its revision is known.
func (r register) seen(revision uint64) register {
	if r.exists {
		r.revision, r.highest = revision, max(r.highest, revision)
	}
	return r
}

func (r register) written(value string, revision uint64) register {
	return register{exists: true, value: value, revision: revision, highest: max(r.highest, revision)}
}

// next returns what the register may be after an operation that was answered so.
// None is that it cannot have been.
func (r register) next(op Op, out Result) []register {
	switch op.Kind {
	case OpGet:
		if out.Found != r.exists || out.Found && (out.Value != r.value || !r.is(out.Revision)) {
			return nil
		}
		return []register{r.seen(out.Revision)}
	case OpSet:
		if out.unknown {
			return []register{r.written(op.Value, 0)}
		}
		if out.Revision <= r.highest {
			return nil
		}
		return []register{r.written(op.Value, out.Revision)}
	case OpSwap:
		switch {
		case out.unknown && r.is(op.Expect):
			return []register{r, r.written(op.Value, 0)}
		case out.unknown:
			return []register{r}
		case out.Conflict:
			if out.Revision == op.Expect || !r.is(out.Revision) {
				return nil
			}
			return []register{r.seen(out.Revision)}
		case !r.is(op.Expect) || out.Revision <= max(r.highest, op.Expect):
			return nil
		}
		return []register{r.written(op.Value, out.Revision)}
	default:
		if !out.unknown && out.Found != r.exists {
			return nil
		}
		return []register{{highest: r.highest}}
	}
}

// oneKey is the model that histories of one key are held to.
var oneKey = func() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{register{}} },
		Step: func(state, input, output any) []any {
			var all []any
			for _, r := range state.(register).next(input.(Op), output.(Result)) {
				all = append(all, r)
			}
			return all
		},
		DescribeOperation: func(input, output any) string { return describeOp(input.(Op), output.(Result)) },
	}
	return m.ToModel()
}()

func describeOp(op Op, out Result) string {
	var what, how string
	switch op.Kind {
	case OpGet:
		if what, how = "get", "nothing"; out.Found {
			how = fmt.Sprintf("%q of revision %d", out.Value, out.Revision)
		}
	case OpSet:
		what, how = fmt.Sprintf("set %q", op.Value), fmt.Sprintf("revision %d", out.Revision)
	case OpSwap:
		what, how = fmt.Sprintf("swap revision %d for %q", op.Expect, op.Value), fmt.Sprintf("revision %d", out.Revision)
		if out.Conflict {
			how = "conflict with " + how
		}
	default:
		what, how = "delete", fmt.Sprintf("existed: %v", out.Found)
	}
	if out.unknown {
		how = "no answer"
	}
	return what + " -> " + how
}
