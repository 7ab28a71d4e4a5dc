;; Traps three calls deep.
(module
  (func $inner (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))
  (func $middle (param i32) (drop (call $inner (local.get 0))))
  (func $_start (export "_start") (call $middle (i32.const 0))))
