package main

// trees allocates and walks, so that the garbage collector runs.
func trees() (sum uint64) {
	type tree struct{ left, right *tree }
	var grow func(depth int) *tree
	grow = func(depth int) *tree {
		if depth == 0 {
			return &tree{}
		}
		return &tree{grow(depth - 1), grow(depth - 1)}
	}
	var count func(t *tree) uint64
	count = func(t *tree) uint64 {
		if t == nil {
			return 0
		}
		return 1 + count(t.left) + count(t.right)
	}
	old := grow(15)
	for range 120 {
		sum += count(grow(13))
	}
	return sum + count(old)
}

// node is an expression of a small language that is interpreted by walking its tree.
type node interface{ eval(env *frame) int }

type frame struct {
	vars [4]int
}

type (
	number    int
	variable  int
	operation struct {
		op          byte
		left, right node
	}
	assign struct {
		to    int
		value node
	}
	while struct{ cond, body node }
	block []node
	call  struct {
		f   *function
		arg node
	}
	choice   struct{ cond, yes, no node }
	function struct{ body node }
)

func (n number) eval(*frame) int       { return int(n) }
func (n variable) eval(env *frame) int { return env.vars[n] }

func (n operation) eval(env *frame) int {
	a, b := n.left.eval(env), n.right.eval(env)
	switch n.op {
	case '+':
		return a + b
	case '-':
		return a - b
	case '*':
		return a * b
	case '%':
		return a % b
	case '<':
		if a < b {
			return 1
		}
	case '=':
		if a == b {
			return 1
		}
	}
	return 0
}

func (n assign) eval(env *frame) int {
	env.vars[n.to] = n.value.eval(env)
	return 0
}

func (n while) eval(env *frame) int {
	for n.cond.eval(env) != 0 {
		n.body.eval(env)
	}
	return 0
}

func (n block) eval(env *frame) (last int) {
	for _, s := range n {
		last = s.eval(env)
	}
	return last
}

func (n choice) eval(env *frame) int {
	if n.cond.eval(env) != 0 {
		return n.yes.eval(env)
	}
	return n.no.eval(env)
}

func (n call) eval(env *frame) int {
	inner := frame{vars: [4]int{n.arg.eval(env)}}
	return n.f.body.eval(&inner)
}

// interpret computes Fibonacci numbers, and sums of remainders in a loop.
func interpret() uint64 {
	fib := &function{}
	fib.body = choice{
		operation{'<', variable(0), number(2)}, variable(0),
		operation{
			'+', call{fib, operation{'-', variable(0), number(1)}},
			call{fib, operation{'-', variable(0), number(2)}},
		},
	}
	loop := block{
		while{
			operation{'<', variable(0), number(1_200_000)},
			block{
				assign{1, operation{'+', variable(1), operation{'%', operation{'*', variable(0), variable(0)}, number(97)}}},
				assign{0, operation{'+', variable(0), number(1)}},
			},
		},
		variable(1),
	}
	return uint64(call{fib, number(24)}.eval(&frame{}))*31 + uint64(loop.eval(&frame{}))
}
