;; A well-behaved guest: it works for a moment when asked to, and says how often
;; it has been asked and what it has computed.
(module
  (global $calls (mut i64) (i64.const 0))
  (memory 1)
  (func (export "work") (param $rounds i32) (result i64 i64)
    (local $sum i64) (local $i i32)
    (global.set $calls (i64.add (global.get $calls) (i64.const 1)))
    (loop $next
      (i64.store (i32.and (local.get $i) (i32.const 0xfff8)) (local.get $sum))
      (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (local.get $i))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (local.get $rounds))))
    (global.get $calls) (local.get $sum)))
