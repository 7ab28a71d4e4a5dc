;; A reactor whose initializer traps.
(module
  (func $init (export "_initialize") unreachable))
