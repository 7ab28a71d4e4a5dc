;; Traps a thousand calls deep, in functions with a long name.
(module
  (func $a_function_whose_name_is_so_long_that_its_frame_must_be_cut_before_it_may_become_a_part_of_the_replicated_state_which_keeps_a_hundred_and_sixty_bytes_of_each_frame_and_no_more (param $n i32)
    (if (i32.eqz (local.get $n)) (then unreachable))
    (call 0 (i32.sub (local.get $n) (i32.const 1))))
  (func (export "_start") (call 0 (i32.const 1000))))
