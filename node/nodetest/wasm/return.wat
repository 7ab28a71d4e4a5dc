;; A command that does nothing and returns.
(module
  (func (export "_start")))
