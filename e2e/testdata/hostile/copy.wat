;; Moves all of its memory to and fro for ever.
(module
  (memory 1000)
  (func (export "_start")
    (loop $for_ever
      (memory.copy (i32.const 1) (i32.const 0) (i32.const 65535999))
      (memory.copy (i32.const 0) (i32.const 1) (i32.const 65535999))
      (br $for_ever))))
