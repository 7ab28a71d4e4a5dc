;; Never gets as far as its own start.
(module (func $first (loop $for_ever (br $for_ever))) (start $first) (func (export "_start")))
