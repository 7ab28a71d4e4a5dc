;; Begins with 100,000 elements in a table, and has no memory.
(module
  (table 100000 funcref)
  (func (export "_start")))
