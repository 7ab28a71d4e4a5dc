;; A reactor that never gets ready.
(module (func (export "_initialize") (loop $for_ever (br $for_ever))))
