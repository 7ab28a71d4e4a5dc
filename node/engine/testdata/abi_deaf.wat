;; Asks for messages, for which its function has another type.
(module
  (import "wasmatrix" "msg_subscribe" (func $msg_subscribe (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory 1)
  (data (i32.const 16) "msgtopic")
  (func (export "wasmatrix_on_message"))
  (func (export "subscribe") (result i32)
    (call $msg_subscribe (i32.const 16) (i32.const 3) (i32.const 19) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 1))))
