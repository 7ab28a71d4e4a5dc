;; A command that asks for messages to be pushed, and exits with what it was told.
(module
  (import "wasmatrix" "msg_subscribe" (func $msg_subscribe (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "msgtopic")
  (func (export "wasmatrix_on_message") (result i32) (i32.const 0))
  (func (export "_start")
    (call $exit (call $msg_subscribe (i32.const 16) (i32.const 3) (i32.const 19) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 1)))))
