;; A small reactor that does nothing until it is asked. Of its one page of memory
;; it has written to the first 4 KiB, one page of the machine.
(module
  (memory (export "memory") 1)
  (func (export "_initialize") (i32.store (i32.const 1024) (i32.const 41)))
  (func (export "next") (result i32)
    (i32.store (i32.const 1024) (i32.add (i32.load (i32.const 1024)) (i32.const 1)))
    (i32.load (i32.const 1024))))
