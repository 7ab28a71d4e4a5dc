;; Small programs for the benchmarks: each takes a count and returns a number.
(module
  (memory 16)
  (type $binary (func (param i32 i32) (result i32)))
  (table funcref (elem $add $sub $xor $mul))
  (func $add (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func $sub (param i32 i32) (result i32) (i32.sub (local.get 0) (local.get 1)))
  (func $xor (param i32 i32) (result i32) (i32.xor (local.get 0) (local.get 1)))
  (func $mul (param i32 i32) (result i32) (i32.mul (local.get 0) (local.get 1)))

  ;; The tightest loop there is.
  (func (export "tight") (param $n i32) (result i32)
    (loop $l
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $n))

  ;; A loop with some arithmetic.
  (func (export "lcg") (param $n i32) (result i32) (local $x i32)
    (loop $l
      (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 1664525)) (i32.const 1013904223)))
      (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 13))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $x))

  ;; Three nested loops, the innermost short.
  (func (export "nested") (param $n i32) (result i32) (local $i i32) (local $j i32) (local $x i32)
    (loop $outer
      (local.set $i (i32.const 10))
      (loop $middle
        (local.set $j (i32.const 4))
        (loop $inner
          (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 31)) (local.get $j)))
          (br_if $inner (local.tee $j (i32.sub (local.get $j) (i32.const 1)))))
        (br_if $middle (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
      (br_if $outer (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $x))

  (func $fib (export "fib") (param $n i32) (result i32)
    (if (result i32) (i32.lt_u (local.get $n) (i32.const 2))
      (then (local.get $n))
      (else (i32.add
        (call $fib (i32.sub (local.get $n) (i32.const 1)))
        (call $fib (i32.sub (local.get $n) (i32.const 2)))))))

  ;; A loop that calls small functions by name.
  (func (export "calls") (param $n i32) (result i32) (local $x i32)
    (loop $l
      (local.set $x (call $small (local.get $x) (local.get $n)))
      (local.set $x (call $small2 (local.get $x) (local.get $n)))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $x))
  (func $small (param i32 i32) (result i32) (i32.add (i32.mul (local.get 0) (i32.const 7)) (local.get 1)))
  (func $small2 (param i32 i32) (result i32) (i32.xor (i32.rotl (local.get 0) (i32.const 7)) (local.get 1)))

  ;; A loop that calls through a table.
  (func (export "indirect") (param $n i32) (result i32) (local $x i32)
    (loop $l
      (local.set $x (call_indirect (type $binary) (local.get $x) (local.get $n)
        (i32.and (local.get $n) (i32.const 3))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $x))

  ;; Adds up memory, word by word.
  (func (export "memory") (param $n i32) (result i32) (local $p i32) (local $x i32)
    (loop $l
      (local.set $p (i32.const 0))
      (loop $words
        (local.set $x (i32.add (local.get $x) (i32.load (local.get $p))))
        (i32.store (local.get $p) (local.get $x))
        (br_if $words (i32.lt_u (local.tee $p (i32.add (local.get $p) (i32.const 4))) (i32.const 4096))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $x))

  ;; A sieve: stores with a stride, branches.
  (func (export "sieve") (param $n i32) (result i32) (local $i i32) (local $j i32) (local $count i32)
    (memory.fill (i32.const 0) (i32.const 1) (local.get $n))
    (local.set $i (i32.const 2))
    (loop $next
      (if (i32.load8_u (local.get $i))
        (then
          (local.set $count (i32.add (local.get $count) (i32.const 1)))
          (local.set $j (i32.add (local.get $i) (local.get $i)))
          (block $done
            (loop $cross
              (br_if $done (i32.ge_u (local.get $j) (local.get $n)))
              (i32.store8 (local.get $j) (i32.const 0))
              (local.set $j (i32.add (local.get $j) (local.get $i)))
              (br $cross)))))
      (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    (local.get $count))

  ;; Many values in registers: what spills when a loop may call.
  (func (export "pressure") (param $n i32) (result i32)
    (local $a i32) (local $b i32) (local $c i32) (local $d i32) (local $e i32) (local $f i32) (local $g i32) (local $h i32)
    (local.set $a (i32.const 1)) (local.set $b (i32.const 2)) (local.set $c (i32.const 3)) (local.set $d (i32.const 4))
    (local.set $e (i32.const 5)) (local.set $f (i32.const 6)) (local.set $g (i32.const 7)) (local.set $h (i32.const 8))
    (loop $l
      (local.set $a (i32.add (local.get $a) (i32.rotl (local.get $b) (i32.const 3))))
      (local.set $b (i32.xor (local.get $b) (i32.add (local.get $c) (local.get $d))))
      (local.set $c (i32.sub (local.get $c) (i32.rotl (local.get $d) (i32.const 5))))
      (local.set $d (i32.xor (local.get $d) (i32.mul (local.get $e) (local.get $f))))
      (local.set $e (i32.add (local.get $e) (i32.rotl (local.get $g) (i32.const 7))))
      (local.set $f (i32.xor (local.get $f) (i32.add (local.get $h) (local.get $a))))
      (local.set $g (i32.sub (local.get $g) (i32.rotl (local.get $a) (i32.const 11))))
      (local.set $h (i32.xor (local.get $h) (i32.mul (local.get $b) (local.get $c))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (i32.xor (i32.xor (i32.xor (local.get $a) (local.get $b)) (i32.xor (local.get $c) (local.get $d)))
             (i32.xor (i32.xor (local.get $e) (local.get $f)) (i32.xor (local.get $g) (local.get $h)))))

  ;; The loop of a small interpreter: a switch on opcodes in memory.
  (func (export "interpreter") (param $n i32) (result i32) (local $pc i32) (local $acc i32) (local $op i32)
    (block $end
      (loop $l
        (br_if $end (i32.eqz (local.get $n)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (local.set $op (i32.and (i32.load8_u (local.get $pc)) (i32.const 7)))
        (local.set $pc (i32.and (i32.add (local.get $pc) (i32.const 1)) (i32.const 1023)))
        (block $7 (block $6 (block $5 (block $4 (block $3 (block $2 (block $1 (block $0
          (br_table $0 $1 $2 $3 $4 $5 $6 $7 (i32.and (i32.add (local.get $op) (local.get $n)) (i32.const 7))))
          (local.set $acc (i32.add (local.get $acc) (i32.const 3))) (br $l))
          (local.set $acc (i32.mul (local.get $acc) (i32.const 5))) (br $l))
          (local.set $acc (i32.xor (local.get $acc) (local.get $n))) (br $l))
          (i32.store offset=4096 (i32.and (local.get $acc) (i32.const 1020)) (local.get $acc)) (br $l))
          (local.set $acc (i32.add (local.get $acc) (i32.load offset=4096 (i32.and (local.get $n) (i32.const 1020))))) (br $l))
          (local.set $acc (i32.rotl (local.get $acc) (i32.const 3))) (br $l))
          (local.set $acc (i32.sub (local.get $acc) (local.get $pc))) (br $l))
        (local.set $acc (i32.or (local.get $acc) (i32.const 1)))
        (br $l)))
    (local.get $acc))
)
