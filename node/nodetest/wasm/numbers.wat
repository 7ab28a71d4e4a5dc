;; Functions of numbers, which give back what they are given.
(module
  (func (export "i32") (param i32) (result i32) (local.get 0))
  (func (export "i64") (param i64) (result i64) (local.get 0))
  (func (export "f32") (param f32) (result f32) (local.get 0))
  (func (export "f64") (param f64) (result f64) (local.get 0))
  (func (export "nothing"))
  (func (export "turned") (param i32 i64 f32 f64) (result f64 f32 i64 i32)
    (local.get 3) (local.get 2) (local.get 1) (local.get 0))
  (func (export "one_of_two") (param i32 i64) (result i32) (local.get 0))
  (func (export "two_of_one") (param i32) (result i32 i32) (local.get 0) (local.get 0))
  ;; What has more than numbers in its type.
  (func (export "takes_extern") (param externref))
  (func (export "gives_extern") (result externref) (ref.null extern))
  (func (export "takes_func") (param i32 funcref))
  (func (export "gives_func") (result i32 funcref) (i32.const 1) (ref.null func))
  (func (export "takes_vector") (param v128))
  (func (export "gives_vector") (result v128) (v128.const i64x2 1 2)))
