;; Writes a byte at a time, four thousand with one call, for ever.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory 2)
  (func (export "_start") (local $i i32)
    (loop $next
      (i32.store (i32.mul (local.get $i) (i32.const 8)) (i32.const 70000))
      (i32.store (i32.add (i32.mul (local.get $i) (i32.const 8)) (i32.const 4)) (i32.const 1))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (i32.const 4000))))
    (loop $for_ever
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 4000) (i32.const 100000)))
      (br $for_ever))))
