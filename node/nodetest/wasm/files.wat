;; Tries to reach files: exits with 1 if any descriptor from 3 to 63 is open,
;; with 2 if a path can be opened below any of them, with 3 if a socket can be
;; accepted on, with 4 if the environment has anything in it.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $fdstat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "etc/passwd")
  (func (export "_start") (local $fd i32)
    (local.set $fd (i32.const 3))
    (loop $l
      (if (i32.eqz (call $prestat (local.get $fd) (i32.const 0))) (then (call $proc_exit (i32.const 1))))
      (if (i32.eqz (call $fdstat (local.get $fd) (i32.const 0))) (then (call $proc_exit (i32.const 1))))
      (if (i32.eqz (call $path_open (local.get $fd) (i32.const 0) (i32.const 1024) (i32.const 10)
            (i32.const 0) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 64)))
        (then (call $proc_exit (i32.const 2))))
      (if (i32.eqz (call $accept (local.get $fd) (i32.const 0) (i32.const 128))) (then (call $proc_exit (i32.const 3))))
      (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $fd) (i32.const 64))))
    (drop (call $environ (i32.const 0) (i32.const 4)))
    (if (i32.load (i32.const 0)) (then (call $proc_exit (i32.const 4))))))
