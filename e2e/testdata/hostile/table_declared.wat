;; Wants a table of ten million elements, 80 MB, in 17 bytes.
(module (table 10000000 funcref) (func (export "_start")))
