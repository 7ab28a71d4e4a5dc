;; Asks for 48 MiB of randomness at a time, for ever.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory 800)
  (func (export "_start")
    (loop $for_ever
      (drop (call $random (i32.const 0) (i32.const 50331648)))
      (br $for_ever))))
