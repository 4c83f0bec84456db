// Package steward compares who has the placement groups of a cluster with who
// should, and changes the records of groups accordingly. The disks do the work: one
// that is named as joining pulls what it misses and makes itself a member (package
// replica). One node at a time does this, the one that is elected; that two do so
// for a moment is harmless, as each change compares the epoch of the record that it
// was made for, and the leadership.
//
//	Facts     what is known of a cluster at one moment, time included
//	Observer  makes them from the agreed records, and knows since when things are so
//	Planner   a pure function from facts to changes
//	Status    a pure function from facts to what an operator should know
//	Ready     a pure function from records to what a gateway changes by itself
//	Run       the loop of a node that wants to be the steward
//
// # What is a member
//
// A member lives if the process of its node runs in the incarnation that the record
// names, and its disk has not failed. Otherwise it is back, if the node runs in
// another incarnation; away, if the node does not run; or gone, if the disk has
// failed or is not known any more. Nothing else is believed: that the lease of a
// node has ended is all that there is to know about it.
//
// # Changes
//
// Each is one of the steps that package replica allows, or several at once, on the
// record of one group, and the first of these that applies is made:
//
//   - Create: there is no such group. Whoever attaches the first volume that has
//     objects in it makes it, with the disks that live and should have it.
//   - Revive: no member lives. The group goes on with those that are back: at once
//     if all are that can be, otherwise after a short wait for the others, as after
//     the power loss of all nodes they come one after the other. If those are too
//     few for writes, others join in the same step. Gateways do it, too, where
//     nobody has to be waited for.
//   - Remove: a member that does not live, if MinCopies members remain. Otherwise
//     writes wait.
//   - Exchange: as before, but too few would remain, and the disk is back: it becomes
//     a joining one in the same step, so that as many disks as before get all
//     writes. Without this, two nodes with two copies would wait for ever when one
//     is started anew.
//   - Lead: the first member, which others pull from, does not live and cannot be
//     removed. One that lives becomes the first.
//   - Cancel: a joining disk that does not live, or is not needed any more.
//   - Leave: a member too many, one that placement does not want. As many remain as
//     it wants, and MinCopies in any case; and if that is fewer than there are to be, as
//     there are too few nodes, only one leaves that has another member on its node.
//   - Join: a disk that placement wants, for a copy that is missing or, if none is, to
//     move the group, one disk at a time.
//
// No step removes the last member, nor one that lives if that is one of MinCopies.
//
// A disk that gateways have removed as it has no room is left alone for as long as it says
// so, but for an attempt now and then, and after a minute another disk takes its place,
// where there is one.
//
// # The wish
//
// Package place says who should have a group, of all disks with a weight that have
// not failed and whose nodes are not draining, and not away for longer than the
// grace period. So a node that is away for a while stays in the wish, its groups
// have a copy less, and it joins them again when it comes back, where only what
// differs has to move. After the grace period they are copied elsewhere, and moved
// back when it returns. A group that has so few living members that its writes
// wait does not wait for that long.
//
// Disks that are to be empty, as their weight is 0 or their node drains, are left like
// any others: the members that placement wants come first, then the old ones leave. Where
// there is no other node for a copy, it stays where it is.
//
// Copies that are missing come first, where the fewest are left first of all. Moves
// are made a few at a time, so that they never keep disks from what is urgent.
//
// # What is asked of others
//
// MinCopies is [record.View.Needed]. A gateway acknowledges a write or a flush only if
// so many disks of the record have done it, joining ones included: after an Exchange there may be fewer members, and when the disk that
// joins is removed again, writes have to wait. A joining disk pulls from the first
// member, whoever that is, and begins anew when Lead has made it another one.
// A disk removes its data of a group only when it is in no record of it, and placement
// does not want it there.
package steward
