;; Lets its table grow for ever.
(module
  (table 1 funcref)
  (func (export "_start")
    (loop $for_ever
      (drop (table.grow 0 (ref.null func) (i32.const 1000)))
      (br $for_ever))))
