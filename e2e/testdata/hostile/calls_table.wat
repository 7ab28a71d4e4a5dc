;; Calls through a table for ever, and never deeper.
(module
  (type $t (func (param i32) (result i32)))
  (table 2 funcref) (elem (i32.const 0) $f $g)
  (func $f (type $t) (i32.add (local.get 0) (i32.const 1)))
  (func $g (type $t) (i32.mul (local.get 0) (i32.const 3)))
  (func (export "_start") (local i32)
    (loop $for_ever
      (local.set 0 (call_indirect (type $t) (local.get 0) (i32.and (local.get 0) (i32.const 1))))
      (br $for_ever))))
