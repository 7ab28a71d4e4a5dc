;; Begins with 20 MiB of memory, which it does not export.
(module
  (memory 320)
  (func (export "_start")))
