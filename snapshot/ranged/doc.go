// Package ranged is the default kind of snapshot store. An entry of its map
// gives a range of consecutive snapshots the place of a chunk, so one copy
// serves any number of snapshots, and taking one costs the same however many
// there are. The origin counts as the newest of them, so that it can have
// places on the store as well.
//
// # Structures
//
//	log         what each commit has changed, with the checksums of its data
//	memtable    the entries of the chunks that the log has changed
//	map         a b+tree on the device: all entries, by chunk
//	eras        a b+tree on the device: the chunks of the entries, by their
//	            newest snapshot
//	space       what each segment of the device is for, and bits for its places
//	checkpoint  an entry of the ring: where the trees, the space, and the log
//	            that continues them are
//
// A commit appends blocks to the log: data and log become durable by one flush,
// as the log has the checksums of the data, and a commit whose data did not
// arrive is none. Records say what the entries of a chunk are, or which one is
// not there any more, so that to replay the log nothing else has to be read.
//
// A lookup looks into the memtable, which overrides the trees chunk by chunk,
// and then into the map: alone where the memtable has all entries of a chunk, with
// it where that says which of the map's are not there any more. Nodes never change; readers use them without a lock,
// and a cache drops those that nobody has used lately. What is not in memory is
// read, but never while a lock is held.
//
// A checkpoint freezes the memtable and merges it, as it is in order, into new
// trees, which share the nodes that did not change. It is made in small steps,
// with commits, or a suspension, in between: until its entry in the ring is
// durable it is nothing, and when the store is closed or others have changed it
// before, it is given up. Then the old nodes and the log before it are free. A
// commit helps with it if the background cannot keep up. Where stores take turns
// faster than a checkpoint is made, it is not begun over and over: memory or log
// make a commit do it in one piece at last.
//
// In memory a node has as many bytes for each field as the numbers of this node
// need, and a search begins where a key would be if all were evenly spread: a lookup
// is the cache lines it has to wait for.
//
// # Deletion
//
// When a snapshot goes only those entries can be of no more use of which it was
// the newest user: those that end at it, or at a snapshot behind it that has
// gone before. The tree of eras has them in one range, so a deletion costs what
// its era has, and a batch is one ordered pass, whose position is a part of the
// commits. Entries in the memtable are not among the eras yet: it is looked through
// as it is in memory, before the pass, once for a deletion and in pieces. What is found costs a
// few bytes of the log and of the memtable, however many entries a chunk has; the
// map learns of it by the next checkpoint.
//
// # Sharing
//
// With share=refs, the default, several entries of a chunk can have the same
// place: who uses a place is known from the entries of its chunk alone, so
// nothing is counted. With share=exact each copy belongs to one entry, so that a
// write to a snapshot in the middle of one costs a copy more.
//
// The format is described in docs/format-ranged.md.
package ranged
