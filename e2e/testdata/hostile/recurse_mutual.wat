;; Two functions call one another for ever, and do something in between.
(module
  (memory 1)
  (func $a (param i32) (result i32) (i32.add (call $b (i32.add (local.get 0) (i32.const 1))) (i32.load (i32.const 8))))
  (func $b (param i32) (result i32) (i32.mul (call $a (i32.xor (local.get 0) (i32.const 7))) (i32.const 3)))
  (func (export "_start") (drop (call $a (i32.const 0)))))
