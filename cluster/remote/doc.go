// Package remote carries the interface of package replica between nodes: [Operations]
// are what a [wire.Server] does for the disks of its node, and a [Peer] is the
// replica.Peer for all disks of another one.
//
// Errors mean the same on both sides. What has not been answered, by whatever
// reason, is replica.ErrUnreachable. Both sides need the error codes of [Errors], and
// limits of payloads of at least [MaxData].
//
// # Format
//
// Heads of requests begin with the disk and its incarnation, each with a length of
// one byte before it, the group in 4 bytes and the epoch in 8. A request of a writer
// has family, version, generation, session, index, tree and offset in 8 bytes each
// after that. What an operation needs besides follows; numbers are big endian.
//
// A reply to which there is something to say has a head that begins with a byte: 0
// for a result, 1 for a damaged block, which is then described. Lists are streams;
// the head of an item is one byte that says whether there is more behind the list, its
// payload as many elements as fit. A map is a payload of as many extents as fit, each
// a varint, see [AppendExtents].
package remote
