;; Exits with the code by which the engine tells that it was interrupted.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory 1)
  (func (export "_start") (call $exit (i32.const 0xffffffff))))
