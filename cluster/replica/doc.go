// Package replica keeps the copies of a placement group equal: it is the logic
// between a gateway, which serves the head of a volume, and the disks that hold the
// objects. It has no clock, socket or disk of its own.
//
//	Volume   the gateway's side of one head: a block.Device
//	Member   the disk's side: what it admits, in which order
//	Join     what a disk does to become a member of a group
//	Peer     a Member as others see it; package wire carries it
//	Groups   the records of groups, as gateways and joining disks change them
//	Agreed   a node's copy of what is agreed
//
// # Records
//
// The record of a group names members and joining disks, its revision is the epoch.
// A disk is named together with the incarnation of its process and the epoch that
// it was added to, so that one that was started anew, or was removed and came
// back, is somebody else. Each change of a record is one of these steps, or several
// of them in one transaction, one after the other:
//
//	remove    a member, never the last one, or a joining disk
//	add       a joining disk that is in no other part of the record
//	promote   a joining disk to the last of the members, on its own only: see Join
//	order     the members in another way
//	revive    see there
//
// Gateways remove, joining disks promote themselves, the steward does the rest (package
// steward). It exchanges a disk, that is it removes a member whose process was started
// anew and adds its disk as a joining one; it lets another member lead, which is the
// first in another order; and when it revives a group it may add disks.
//
// # Rules
//
// Admission. A disk serves a request of epoch e only while the epoch that it
// knows is e: it waits for its copy to know e, refuses if it knows a later one, and
// when it learns of a later one it lets all requests of earlier ones end before the
// first of the new one begins. The same holds for writers: (generation, session)
// is a number that grows; Open makes a disk refuse smaller ones, and returns when
// none of them is inside any more. Open also waits until the disk's copy knows the
// generation, and is refused unless that is the attachment that it sees.
//
// Write. All disks of the record of one epoch, joining ones too, have executed it
// before it is acknowledged, and they are as many as are needed, see
// record.View.Needed; otherwise it waits, and fails in the end. When the epoch changes meanwhile it begins again,
// with all disks of the new record: it can be repeated, as the gateway keeps
// everything else from its blocks until it ends. Requests are made of whole blocks
// of 4 KiB, the gateway reads what is missing at the edges.
//
// Read. From one member, with the same admission. It never overlaps a write in
// flight. The lease is looked at before. A map, which tells what is allocated and what
// is not as in another version, is a read. A snapshot is read without an attachment;
// whoever answers makes sure afterwards that it had not been deleted.
//
// Flush. All disks of the records of all groups that were written since the last
// flush, as many as writes need; disks that come to a record meanwhile too.
//
// Unknown outcome. After a call without an answer the gateway opens a new session
// on that disk before it sends anything else there.
//
// Abandonment. A call is not waited for any more when a later record does not have the disk:
// nothing depends on it then. Its outcome is unknown, but it takes no new session, see below.
//
// Failure. A disk that does not do what it must is removed from the record before
// the request goes on, if enough members remain; else the request waits, and fails
// in the end. One that does not answer is removed from all groups of the volume.
//
// Room. A disk that has no room for a write is removed like any other that does not do
// what it must, if those that have executed the write are enough without it, and without
// all others that have not. Else nobody is removed, as the next one might be that has it,
// and the write fails at once. So writes fail for want of room only when too few disks
// have it, and what needs no room goes on with all. A joining disk that has none for what
// it pulls takes itself out of the record, if the rest are enough.
//
// Doubt. After a write that has failed, its objects are made equal on all disks
// before anything else is done with them.
//
// Join. A joining disk gets all writes from the epoch on at which it was added. It
// pulls the rest from the first member, block by block, and leaves out blocks of
// versions that a client has written on it since it was added; it flushes, and
// promotes itself, if the record is still that of the epoch at which it has pulled. If
// the first member is another one by then, it begins again.
// What is dirty where it pulls from becomes dirty on it.
//
// Marks. Whatever may make members differ marks the object dirty, durably, on the
// disk that it changes, before. Marks are cleared when all disks of a record have
// said that they have the same, durably, while no write of that head was under way.
//
// Attach. The gateway puts a leased key; its revision is the generation. For each
// group it opens a session on all disks of the record, removing those that do not
// answer, takes the union of their dirty objects, and makes what the head reads
// there equal to what the first member has. All that at one epoch: if it changes,
// that group begins again. Then it serves; the first flush covers all groups.
//
// Revive. A group none of whose member incarnations lives, as far as their leases say,
// goes on with disks of its last members in their new incarnations, and is told from
// what it was before by a number. Members that stay away are left out: they come
// back by joining. A gateway that has acknowledged writes there since the last flush has
// lost them, and says so: the volume fails.
//
// # Why nothing is lost
//
// Let W be acknowledged at epoch e: all disks of record(e) executed it while they
// knew e. Then every member of each later epoch has W, unless the group was
// revived in between. Look at a member m of a later epoch. Either it is one of
// record(e), and has W. Or it was added later and has pulled the object from a
// member s at an epoch p > e. If s is one of record(e) it executed W while it knew e,
// so before it knew p, so before the pull. Else the same is true of s, which became
// a member before. Nothing that m pulled later reverted W either: m leaves out what
// clients wrote on it since it was added, and what it pulls from has W. Who changed
// the record, and whether the gateway knew of it, does not matter.
//
// Of the steps, only promote makes a member. It compares the epoch at which the disk has
// pulled, so it is about the source of that epoch, whoever is first before or after; that
// is why it comes alone. What else is done in one transaction is as if there had been an
// epoch for each step, of which nobody knew: no write was acknowledged and nothing was
// pulled at it. So an exchange is a removal and an addition; another order is the same
// members, and any of them would do as a source; disks that are added to a group that is
// revived are added to one whose members have what they have flushed.
//
// The same holds for a flush, as a joining disk flushes before it is promoted, and
// is flushed with the members before that. So all members have durably what was
// flushed, and any of the last ones is enough after a power loss. A disk that was
// removed earlier is in no record and comes back by joining only.
//
// A member that was exchanged counts as removed, though it has all that was flushed: if
// the others die for good before it has joined again, the group is lost. It is
// exchanged only where writes would have to wait for it otherwise.
//
// A member whose lease is over may still run when the group is revived without it. It
// serves those only who know no later epoch. They get no write acknowledged, as the
// record that they know has a member that was started anew; what they read there is as
// it was before the loss, for as long as nobody else is attached.
//
// # Races
//
// Late duplicates after a session change: Open lets those inside end and refuses
// those that come later.
//
// A call that was abandoned, as it was of epoch e and the record of e+1 does not have the
// disk: it may still be executed there, as long as the disk knows e. Whatever it is asked
// in this group later is of the epoch at which it was added again, or a later one: when
// it learns of that, it lets all requests of earlier ones end before it pulls anything or
// serves the first one, and refuses those that come afterwards. A flush has no epoch, and does
// no harm at any time. A session that was opened late is an older one than that in use, or
// the only one. What is under way in other groups is none of this, so that the session stays.
//
// A write acknowledged at e while e+1 with a joining disk is agreed: the pull is at
// e+1, and when the disk it pulls from knows e+1, all requests of e have ended
// there; they are part of what is pulled. Those refused are repeated at e+1.
//
// A write that a joining disk has and a member has not yet, while the disk pulls
// that block: it left the block out, as a client has written it. A write that the
// joining disk has not got yet, while it is being promoted: it is not acknowledged,
// or the disk was removed before, and the promotion fails.
//
// Zeros, whose entries depend on what ancestors have: a joining disk pulls the
// object first.
//
// Two gateways, one with a stale lease: it serves no request that begins after its
// lease is in doubt. A write that began before is executed on no disk after the new
// gateway has opened it; before, it is part of what the new one finds. Were all
// disks of its record removed since, those that replaced them have pulled from one
// that refuses the stale epoch now.
//
// Two heads of one family, with two gateways, in one object: writes of one change what
// the digests are of, so that marks are not taken back while the copies differ by what
// either has under way, and stay until either is attached anew.
//
// A removed member that still serves reads: only to a gateway that does not know
// the new epoch, so has acknowledged nothing in it; what the disk has is what that
// gateway wrote.
//
// A flush that races with a removal: what remains of the record was flushed. With
// a promotion: the disk was flushed as a joining one.
//
// A write that failed on some members: see Doubt. After a crash of the gateway: see
// Attach; until then nobody reads the head.
//
// A write that one member has no room for, when it is removed: it is carried out anew with
// the record that does not have it, before it is acknowledged; that it had part of the write is
// no matter then. Two gateways that remove two full disks: each removal leaves as many as
// are needed, and the second one is refused if that is not so.
//
// A snapshot during writes: Freeze keeps requests out, flushes, and only then may
// the head become a snapshot. So versions with children are equal and durable.
//
// A member that was started anew: its incarnation is in no record, each request for
// the old one is refused, and the gateway removes it before it acknowledges, reads or
// flushes anything there.
//
// Two repairs of one object by gateways of two heads: each changes only what its own
// head has, and compares what the heads read rather than where that lies, which a
// deletion in progress may have changed on some disks.
//
// # What is asked of others
//
// Join is called as long as the record has the disk as a joining one, also after errors.
// The steward removes members and joining disks whose incarnation is over, and revives
// groups; it need not hurry, as gateways remove what does not answer. But the sooner it does,
// the sooner nobody waits for a disk that takes its time with answers.
//
// After ErrLost or ErrRevived the volume is closed and attached anew; the client of a
// volume with ErrLost has to know. Tidy is called now and then, after a flush.
//
// Versions are deleted only in groups without joining disks, and again from the beginning
// if a record changed meanwhile. A Peer ends each call in bounded time, see there.
package replica
