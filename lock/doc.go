// Package lock is the lock of a cluster: whoever holds it may change what
// several parties share, a snapshot store for instance.
//
// # Words
//
// A party is one who may hold the lock: one [Lock] value, of this process, of
// another one or on another host. Two Lock values are two parties wherever they
// are, and a process that was restarted is another party than before. A hold is
// the time from when a party gets the lock until it unlocks or loses it: one
// [Hold] value. At any time at most one hold is valid.
//
// # What it tells
//
// Whether another party had the lock in between ([Hold].HeldByOther): what was
// remembered of the shared thing must then be read again. Whether another party
// waits ([Hold].Contended, [Hold].Waiting): background work then hands over.
// That the lock was lost ([Hold].Lost, [Hold].Err).
//
// # Generations
//
// Each hold has a generation, a number that is greater than that of every hold
// of another party before it, and not less than that of any hold before it. It
// stays the same when a party gets the lock again that nobody else had
// meanwhile. Generations survive restarts of holders, servers and hosts.
//
// The generation is the fencing token. Nobody can promise that a holder that
// was stopped for an hour in the middle of a write does not finish that write
// when it goes on, long after another party got the lock. So whoever writes puts
// the generation into what it writes, and whoever finds a greater one there than
// its own stops for good. [Hold].Err before each write makes this rare; the
// comparison makes it safe.
//
// What is shared may outlive the lock: a lock file is deleted, the state of a
// server is lost, tokens begin again at 1. A party that finds a token on the
// shared thing that is greater than its generation when it opens it calls
// [Hold].Raise, which puts the generation above that: it fences every holder
// from before the accident.
//
// # Loss
//
// A hold can end before Unlock: a lease expires because the server or the
// network is gone, a lock file is replaced. Then Lost is closed, Err and Unlock
// return [ErrLost], and the party must not write any more: what it has changed
// and not yet made durable may contradict what others do now. The next Lock of
// the same party has a greater generation and says HeldByOther.
//
// # Transports
//
//	[None]    one party only: nothing is locked, nothing costs anything
//	[Local]   parties in this process
//	[File]    parties that see the same file: locks of the kernel on its bytes
//	[Dial]    parties that reach the same [Server] over TCP, by leases
//
// All promise the same; package locktest has the proof. They differ in what
// happens when a holder dies: Local and File free the lock at once, a Server
// after the lease. [Lazy] makes of any of them a lock that is cheap to take
// often, by many goroutines: it keeps the lock while nobody else wants it.
//
// Time comes in through [Clock].
package lock
