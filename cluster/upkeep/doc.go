// Package upkeep is the background work of a node on its disks: versions that were
// deleted are taken apart, what a disk should not have is removed, what disks have is
// compared and verified, and rot is mended. All of it is done by jobs (package job).
//
//	Disk    a disk of this node as clients use it: what they do is noted
//	Keeper  does the work of all disks of the node
//	Status  what a disk has done and found
//
// # Joining groups
//
// What a disk pulls to join groups is done in steps of a job, a few groups at the same time, and
// those first of which one copy is left. While there are clients it is one group after the
// other, in steps of half a millisecond, see package job. The groups that are whole are made
// known together, while there are clients twice in a second: each time writes wait for a
// moment, and processors are busy.
//
// # Deleting versions
//
// A doomed version is taken apart by each disk for itself, object by object (package
// disk). Which versions are is agreed in one record.Deletion for a family, as it may make
// entries another doomed version's, which must not be forgotten at that time. A disk acts
// on that record only, and only in objects of groups of which it is a member and that
// have no joining disks: what is pulled must not be moved meanwhile.
//
// The first of the nodes that run coordinates: it makes the record, asks all nodes
// whether their disks are done, and takes the versions out of the tree of which no disk
// has anything. That others may do so at the same time is harmless, as each transaction
// compares the tree and the deletion. The answer of a disk is not what it has done but
// what it has: nothing, durably, of those versions in any group in which it has a part. It is
// given at the records of groups that the coordinator knows, or later ones, and none has
// changed since the disk began: what else it has come to have, it has pulled. After all answers the
// records of the groups must still be the same, without joining disks. Whoever joins later
// pulls from disks that have nothing of the versions; a disk that was away at that time is
// in no record, comes back by joining, and loses what the others do not have.
//
// So the cursor of a deletion is what is left: after a restart a disk goes through what it
// still has of the versions. Entries that several versions need are kept, and the doomed
// version with them. It is looked at again when a version below it has gone, and from time
// to time.
//
// # Cleaning
//
// A disk removes objects of groups that have all copies that placement wants elsewhere, all
// of which live, when it is in no record of the group and placement does not want it there;
// and those of families that do not exist any more. Each removal is over before the next
// epoch of the group, in which the disk may be asked to join.
//
// # Scrub
//
// Digests: the disk that is the first member of a group compares the lists of all members.
// Objects that are dirty anywhere, or change meanwhile, are left out: they are compared when
// their volume is attached. When others have a different digest and what versions read from
// them differs, the disks with the rarer digest have to join the group again, which makes
// them equal under the rules of package replica.
//
// Data: each disk reads and verifies what it has. A block that is not what was written
// gets the content with the right checksum from another member, which is right whatever
// happens at the same time. The same is done at once with what a client has met.
//
// Cursors are in the record.Health of the disk, as are orders to begin now.
//
// # A disk that fails
//
// With an error that is not about the request a disk counts as failed, which its node puts
// into its record: gateways have removed it from the groups it was needed for, the steward
// does so with the others. It does not count as such any more when it could be opened again.
// Blocks that cannot be read are mended like rot, to another place; if they are many, the
// disk has failed.
package upkeep
