;; Calls itself for ever through a table.
(module
  (type $t (func (param i32) (result i32)))
  (table 2 funcref) (elem (i32.const 0) $f $g)
  (func $f (type $t) (i32.add (i32.const 1) (call_indirect (type $t) (local.get 0) (i32.const 1))))
  (func $g (type $t) (i32.add (i32.const 2) (call_indirect (type $t) (local.get 0) (i32.const 0))))
  (func (export "_start") (drop (call $f (i32.const 0)))))
