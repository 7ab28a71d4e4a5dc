;; Never ends and calls nothing.
(module
  (func (export "_start") (loop $l (br $l))))
