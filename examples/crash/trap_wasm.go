package main

// trap executes the instruction unreachable. Go code alone never does: a nil
// pointer is found by a check and ends in a panic, which is exit code 2.
func trap()
