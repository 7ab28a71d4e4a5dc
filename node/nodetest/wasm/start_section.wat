;; Traps in its start section, before anything can be called.
(module
  (func $first unreachable)
  (start $first)
  (func (export "_start")))
