;; Reads memory so that every load misses the caches, for ever.
(module
  (memory 1000)
  (func (export "_start") (local $at i32)
    (loop $for_ever
      (local.set $at (i32.rem_u
        (i32.add (i32.add (i32.mul (local.get $at) (i32.const 1664525)) (i32.const 1013904223)) (i32.load (local.get $at)))
        (i32.const 65535996)))
      (br $for_ever))))
