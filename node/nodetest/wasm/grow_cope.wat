;; Asks for more than it is given, is content with one page more, and traps.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.ne (memory.grow (i32.const 60000)) (i32.const -1)) (then return))
    (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then return))
    unreachable))
