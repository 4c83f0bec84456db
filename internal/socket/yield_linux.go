package socket

import "syscall"

// Yield lets somebody else have the processor for a moment. Who is about to sleep
// for want of requests calls it first: a client that shares the processor makes
// more of them meanwhile, which are then received with one system call instead of
// one each, and nobody has to be woken for any of them.
//
// The scheduler of Go is not told, as it would hand the goroutines on to another
// thread, for which there is no processor either.
func Yield() { syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) }
