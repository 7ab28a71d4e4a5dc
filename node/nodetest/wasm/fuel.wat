;; Work of every kind, as much as asked for.
(module
  (memory 2)
  (func (export "loop") (param $n i32)
    (loop $next
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $next (local.get $n))))
  (func $recurse (export "recurse") (param $n i32)
    (if (local.get $n) (then (call $recurse (i32.sub (local.get $n) (i32.const 1))))))
  (func (export "recurse_again") (param $n i32) ;; to a depth of 100 each time
    (loop $next
      (call $recurse (i32.const 100))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $next (local.get $n))))
  (func (export "fill") (param $n i32) ;; 64 KiB each time
    (loop $next
      (memory.fill (i32.const 0) (local.get $n) (i32.const 65536))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $next (local.get $n))))
  (func (export "copy") (param $n i32)
    (loop $next
      (memory.copy (i32.const 0) (i32.const 65536) (i32.const 65536))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $next (local.get $n)))))
