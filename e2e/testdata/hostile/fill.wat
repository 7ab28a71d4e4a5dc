;; Fills all of its memory for ever.
(module
  (memory 1000)
  (func (export "_start")
    (loop $for_ever
      (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536000))
      (br $for_ever))))
