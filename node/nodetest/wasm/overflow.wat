;; Recurses until its stack is full.
(module
  (func $f (param i64) (result i64)
    (i64.add (i64.const 1) (call $f (i64.add (local.get 0) (i64.const 1)))))
  (func (export "_start") (drop (call $f (i64.const 0)))))
