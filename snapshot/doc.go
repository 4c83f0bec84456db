// Package snapshot makes an origin with any number of writable snapshots out
// of two devices: the origin, any device, and a store, any device, which holds
// what the origin and its snapshots do not have in common.
//
// # Words
//
// A view is something that can be read and written as a disk: the origin, or a
// snapshot. The devices underneath are called origin device and store device.
// A chunk is a fixed part of the address space, numbered from 0; all views
// have the same chunks. The place of a chunk of a view is where its content
// lies: on the origin device at the same offset, somewhere on the store
// device, or nowhere if it is a hole, which reads as zeros. Two views share a
// chunk if it has the same place in both. What lies on the origin device at
// chunk c is read as chunk c only.
//
// # Who does what
//
// The engine, this package, does all that is generic: views as devices, locks
// on ranges, the input and output of data, the order of barriers, names,
// background work, what to do when space runs out. A [Store], one package for
// each kind, does what makes it a kind: it maps chunks of views to places,
// allocates places, and makes the mapping durable in its own format, for which
// it reads and writes the parts of the store device that hold no data. The
// engine names no kind and parses no argument of one; what a kind can do is
// data, see [Caps].
//
//	a read   view -> Map -> segment -> read the origin or store device at its place
//	a write  view -> admission -> range lock -> Map: may it be written in place? then do
//	         else Plan -> copy -> write data -> Apply -> (Commit, if an origin chunk
//	         will be overwritten)
//	a flush  barrier of the store (Commit) and of the origin device, each only if
//	         there is something to make durable, each shared by all who wait
//
// # The ordering law
//
//  1. An origin chunk is overwritten only after nothing durable needs it: the
//     exceptions of all snapshots that shared it are durable, i.e. Commit has
//     returned. This holds whether or not a client ever flushes.
//  2. A place is written in place only on the strength of what is durable:
//     that another view left it, or was deleted, counts only after the commit.
//  3. Redirected data need to be durable at the next flush of the client only;
//     a commit makes data and mapping durable together.
//  4. A chunk comes home (its place becomes the origin device) in this order:
//     detach all snapshots from the origin chunk, commit, copy, flush the
//     origin device, [Store.Home], and at some time commit.
//  5. A place that is not used any more is used again only after the commit
//     that freed it, and after all readers who may have looked it up are done
//     ([Config].Retire).
//  6. All that is staged before a commit becomes durable with it or an earlier
//     one: there is one sequence of changes, and a crash leaves a prefix of it
//     that contains all that was committed.
//
// Policies of the origin are combinations of these. copyout detaches and then
// writes in place: the origin device is a valid image at every moment.
// redirect gives the origin view a place on the store. staged is redirect, and
// in the background chunks come home in large sorted batches. A rollback is
// the homecoming of a snapshot instead of the origin.
package snapshot
