;; A small reactor that traps when it is told to.
(module
  (memory (export "memory") 1)
  (func (export "boom") unreachable)
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
