// Package cpu shares a few cores among many guests.
//
// Native guest code cannot be preempted: a goroutine that runs it keeps its
// thread until the guest itself comes back. So guests take turns. Each has a
// [Share]; its goroutine takes one of the scheduler's slots before it enters
// guest code, comes by at safe points, and gives the slot back before it blocks.
//
// Slots go to the share that would be the first to have paid for a slice, by
// virtual time, which is the time on a slot divided by the share's weight (as by
// the finish tags of fair queueing; see type fair). A share that was idle begins where the others are, so
// that it is served at once but cannot save up. A share below a whole core has
// a quota besides, of any period of the length of one window.
//
// Time is that of the wall while a slot is held, not CPU time of a thread: that
// costs a system call each time, and goroutines move between threads. On a
// machine whose cores are taken by others a guest is charged for what they took.
//
// There is no goroutine and no timer but of shares that wait out a quota.
package cpu
