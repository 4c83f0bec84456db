// Package coord is the little state that a cluster agrees on: its nodes and
// disks, placement groups, volumes and versions, attachments, positions of
// background jobs. Data never go through it.
//
// # Words
//
// A [Store] is one client's access to the agreed state. The state is a set of
// entries, each a key with a value, and a revision. A change is what one
// transaction did, or the end of one lease; it makes the revision greater. A
// lease is a promise to be alive that has to be repeated; entries that are
// attached to it vanish with it.
//
// # Revisions
//
// The revision begins at 1 or above, never goes back, and is the same for all
// clients. Each change has one of its own, which the entries that it put carry.
// Other users of the same store may take revisions in between. So a revision is
// three things at once:
//
//   - a version: a transaction that compares the revision of an entry is done
//     only if nobody touched the entry since;
//   - an epoch: of two states of a record the one with the greater revision is
//     the newer one, whoever tells of it;
//   - a fencing token: whoever got a key first at revision 7 is fenced by
//     whoever got it at revision 9. Others remember the greatest token that they
//     have seen, and refuse smaller ones.
//
// # What is promised
//
// Atomic: a transaction is done as a whole at one moment, or not at all, and
// nobody sees a part of it. So is the end of a lease with all of its entries.
//
// Durable: what a transaction that returned did survives the crash of every
// client and of every server, as long as the store keeps a majority of its disks.
// The in-memory store survives clients only.
//
// Ordered: transactions, [Store].Get and [Store].List are linearizable. What
// returned before another one was called is seen by that one, and revisions
// follow the order. There are no stale reads; whoever reads often keeps a copy
// and follows it with [Store].Watch.
//
// A watch sees every change under its prefix after its revision exactly once, in
// the order of revisions, each as a whole. It may be late without limit.
//
// # Errors and unknown outcomes
//
// [ErrInvalid] and [ErrNoLease] mean that nothing was changed, and so does
// [ErrClosed] when the store was closed before the call. After any other error of
// a transaction, [ErrUnavailable] and those of contexts above all, nobody knows:
// it may have been done, it may be done a little later, or never.
// Repeat it then. It is done at most once if it compares the revision of an entry
// that it also puts or deletes: either the repetition is done, or its comparison
// fails and [Result].Found shows whether the entry there is one's own. Values
// should therefore tell who wrote them.
//
// Reads, and transactions without operations, can just be repeated.
//
// # Leases
//
// A holder that has not heard from the store for a while cannot know whether its
// lease is over, but it knows a time before which it cannot be: a lease does not
// expire earlier than its time to live after the last renewal that succeeded was
// sent. [Lease] counts from there by the clock of its own side, [Store].Clock, and
// says [ErrInDoubt] an eighth of the time to live too early, which is room for
// clocks that do not run at the same speed. Who holds something by a lease asks
// [Lease].Err before each act, and fences by revision for the case that it stops
// between the question and the act.
//
// Doubt ends when a renewal gets through: the lease was alive all the time, and
// so was what is attached to it. So an interruption of the store itself, which
// begins the time of all leases anew, costs no attachment. See [Lease].
//
// While the servers of the store choose a new leader, which takes up to twice
// their election timeout, nothing is renewed. A time to live of four times that
// timeout lasts through it without doubt.
//
// # Elections
//
// [Elect] waits until a key is free and puts it, attached to a lease. The
// revision of the entry is the token of the leadership. A leader puts
// [IfRevision] of its key and token into the transactions that it makes as the
// leader; those of an older one then fail for good.
//
// # Limits
//
// Keys have 1 to [MaxKey] bytes from '!' to '~', values at most [MaxValue] bytes,
// a transaction at most [MaxOps] comparisons and operations each and [MaxTxn]
// bytes in all, a lease a time to live from [MinTTL] to [MaxTTL]. What is beyond
// is ErrInvalid before anything is sent. Keys of the store are made of parts with
// slashes between them by convention only; a prefix is any number of bytes.
//
// Package coordtest is the proof that a Store keeps all this.
package coord
