;; Calls itself as deeply as its memory limit lets it, with frames that take several
;; times what they are estimated to, and sleeps there for ever.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory 1)
  (func $sleep
    (loop $for_ever
      (i64.store (i32.const 24) (i64.const 3600000000000))
      (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
      (br $for_ever)))
  (func $down (param $left i64) (result i64)
    ;; Values that wait on the stack for the end of the call.
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt local.get 0 i64.popcnt 
    (if (i64.eqz (local.get $left)) (then (call $sleep)))
    (call $down (i64.sub (local.get $left) (i64.const 1)))
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
    i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add i64.add 
  )
  (func (export "_start")
    (drop (call $down
      (if (result i64) (i32.eq (memory.grow (i32.const 16)) (i32.const -1))
        (then (i64.const 6))
        (else (i64.const 1000)))))))
