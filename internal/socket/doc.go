// Package socket takes stream sockets out of the view of Go's poller while
// goroutines work on them, and sends from many places in one system call.
//
// The poller of package net watches a socket all the time: whatever arrives, and
// whatever the peer takes, wakes a thread, also when the goroutine that receives
// is awake and about to look anyway. Where a processor can be spared that costs
// little. Where client and server share two of them, as in most virtual machines,
// it takes a third of the throughput of 64 KiB reads. A [Conn] asks to be woken
// only when there is nothing left to do.
package socket
