;; Functions of bytes. In "probe" the input says what to call: four words, of
;; which the first is 0 for input_len, 1 for input_read, 2 for output_write, and the
;; others are the arguments. They are read to address 16, what is not is zero.
(module
  (import "wasmatrix" "input_len" (func $input_len (result i32)))
  (import "wasmatrix" "input_read" (func $input_read (param i32 i32 i32) (result i32)))
  (import "wasmatrix" "output_write" (func $output_write (param i32 i32) (result i32)))
  (memory (export "memory") 1 128)
  (global $len (mut i32) (i32.const 9))
  (global $read (mut i32) (i32.const 9))
  (global $write (mut i32) (i32.const 9))
  (func $do (param $what i32) (param $a i32) (param $b i32) (param $c i32) (result i32)
    (if (i32.eqz (local.get $what)) (then (return (call $input_len))))
    (if (i32.eq (local.get $what) (i32.const 1)) (then (return (call $input_read (local.get $a) (local.get $b) (local.get $c)))))
    (call $output_write (local.get $b) (local.get $c)))
  (func (export "_initialize")
    (global.set $len (call $input_len))
    (global.set $read (call $input_read (i32.const 0) (i32.const 0) (i32.const 4)))
    (global.set $write (call $output_write (i32.const 0) (i32.const 4))))
  ;; What the functions said while there was no call.
  (func (export "outside") (result i32 i32 i32) (global.get $len) (global.get $read) (global.get $write))
  (func (export "probe") (result i32)
    (drop (call $input_read (i32.const 0) (i32.const 16) (i32.const 16)))
    (call $do (i32.load (i32.const 16)) (i32.load (i32.const 20)) (i32.load (i32.const 24)) (i32.load (i32.const 28))))
  ;; The same in a call of numbers.
  (func (export "numeric_probe") (param i32 i32 i32 i32) (result i32)
    (call $do (local.get 0) (local.get 1) (local.get 2) (local.get 3)))
  (func (export "load") (param $at i32) (result i32) (i32.load (local.get $at)))
  (func (export "store") (param $at i32) (param $v i32) (i32.store (local.get $at) (local.get $v)))
  ;; Gives back the input, in pieces of 1,000 bytes.
  (func (export "echo") (result i32)
    (local $at i32) (local $n i32) (local $e i32)
    (loop $next
      (local.set $n (call $input_read (local.get $at) (i32.const 4096) (i32.const 1000)))
      (if (i32.lt_s (local.get $n) (i32.const 0)) (then (return (local.get $n))))
      (local.set $e (call $output_write (i32.const 4096) (local.get $n)))
      (if (local.get $e) (then (return (local.get $e))))
      (local.set $at (i32.add (local.get $at) (local.get $n)))
      (br_if $next (local.get $n)))
    (i32.const 0))
  ;; Writes 64 KiB 65 times, which is once too often, then one byte and none, and
  ;; returns 1000 times the first refusal's number, and what the two were told.
  (func (export "too_much") (result i32)
    (local $i i32) (local $refused i32)
    (loop $next
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (if (i32.eq (call $output_write (i32.const 0) (i32.const 65536)) (i32.const -2))
        (then (if (i32.eqz (local.get $refused)) (then (local.set $refused (local.get $i))))))
      (br_if $next (i32.lt_u (local.get $i) (i32.const 65))))
    (i32.sub
      (i32.sub (i32.mul (local.get $refused) (i32.const 1000)) (i32.mul (call $output_write (i32.const 0) (i32.const 1)) (i32.const 10)))
      (call $output_write (i32.const 0) (i32.const 0))))
  (func (export "silent"))
  ;; Says something and traps.
  (func (export "writes_and_traps") (result i32)
    (drop (call $output_write (i32.const 0) (i32.const 8)))
    unreachable)
  ;; Of a type that takes no data.
  (func (export "two") (result i32 i32) (i32.const 1) (i32.const 2))
  (func (export "wide") (result i64) (i64.const 1)))
