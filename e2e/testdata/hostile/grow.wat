;; Takes all the memory that it gets, touches it, and goes on asking.
(module
  (memory 1)
  (func (export "_start") (local $at i32)
    (loop $for_ever
      (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1))
        (then
          (local.set $at (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 65536)))
          (memory.fill (local.get $at) (i32.const 1) (i32.const 65536))))
      (br $for_ever))))
