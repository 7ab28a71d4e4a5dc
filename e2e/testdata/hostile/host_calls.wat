;; Calls the host for ever: for the time, for nothing, for chance.
(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory 1)
  (func (export "_start")
    (loop $for_ever
      (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 0)))
      (drop (call $yield))
      (drop (call $random (i32.const 0) (i32.const 16)))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8)))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)))
      (br $for_ever))))
