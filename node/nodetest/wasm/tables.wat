;; Begins with a page of memory and 100,000 elements in two tables.
(module
  (memory 1)
  (table 60000 funcref)
  (table 40000 externref)
  (func (export "_start")))
