;; Functions of bytes in a module that has no memory to take or give any.
(module
  (import "wasmatrix" "input_len" (func $input_len (result i32)))
  (import "wasmatrix" "input_read" (func $input_read (param i32 i32 i32) (result i32)))
  (import "wasmatrix" "output_write" (func $output_write (param i32 i32) (result i32)))
  (func (export "len") (result i32) (call $input_len))
  (func (export "read") (result i32) (call $input_read (i32.const 0) (i32.const 0) (i32.const 4)))
  (func (export "read_beyond") (result i32) (call $input_read (i32.const 1000) (i32.const 0) (i32.const 4)))
  (func (export "write") (result i32) (call $output_write (i32.const 0) (i32.const 4))))
