;; Imports a function of the host by another type.
(module
  (import "wasmatrix" "kv_get" (func (param i32 i32) (result i32)))
  (func (export "_start")))
