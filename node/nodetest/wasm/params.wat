;; Its _start takes a parameter, which nobody gives.
(module
  (func (export "_start") (param i32)))
