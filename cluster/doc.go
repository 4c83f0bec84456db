// Package cluster is a node: the process that has disks of a cluster, gives other
// nodes access to them, and serves volumes to clients. No node is special.
//
//	Start      opens a data directory, or makes one, and takes part
//	Node       volumes by name: create, open as a block.Device, snapshot ...
//
// # The first start
//
// A data directory (package home) that is empty becomes a cluster of one: a name of
// a cluster, an authority, a certificate (package identity), a member of etcd alone,
// the record of the pool, and its disks. Nothing is told to anybody before the
// directory says that it is finished, so that a start that was killed is repeated
// from the beginning.
//
// # Each start
//
// The directory is locked, so that the process before is dead: the lease it may have
// left behind is ended, which frees its attachments at once rather than when the time
// of the lease is over. The process gets an incarnation of its own. It follows the
// agreed records (record.State), opens its disks, tells by a leased Run where it can
// be reached, and is a member of groups from then on.
//
// Which nodes vote on what is agreed is for the keeper of voters (package voters), for
// which all nodes stand that may vote. The others are clients of those. A node that votes
// asks its own member, which no other node can take away, as long as that is well.
//
// A disk in a new incarnation is in no record of a group. When no process of a
// group's members lives any more, which of a cluster of one is so after each start,
// the group is revived with those that are back; see package replica.
//
// # Groups
//
// The record of a group is made when a volume is attached that has objects there: a
// group without a record has no objects. Placement (package place) says who its
// members are, of the disks whose nodes run.
//
// What becomes of groups then is for the steward (package steward), for which all nodes
// stand. Disks that it lets join a group pull what they miss by themselves.
//
// # Attachments
//
// The node that attaches a volume is its gateway. The first one that somebody opens the
// volume at attaches it; the right to write it is a record with the lease of the node.
// Other nodes at which it is opened send requests to the gateway. They all go through one
// session, and when that ends nothing of it may be under way any more before the next
// one is used, so that no late duplicate overwrites anything.
//
// A gateway keeps a volume as long as anybody has it open: other nodes count like its own
// clients, until they say that they have nobody any more, or their session ends. So a
// client that has come to another node keeps its connection when the gateway's own are
// gone. What nobody has open is given up, after a flush, when another node asks for it,
// or after a while; and at once when the gateway stops. Then the node at which there are
// clients attaches it with their next request. When the gateway dies they wait until its
// lease is over. So clients may move from node to node, and see nothing of nodes that
// come and go.
//
// A device also survives that the attachment was lost on the way, as it is after a pause
// that was longer than the lease. But if a group of the volume was revived meanwhile,
// writes that were acknowledged and not flushed may be lost: then the device fails for
// good, and one that is opened anew does not.
//
// Two gateways that do not hear each other, while other nodes hear both, cannot both have
// the same disks as members. One of them finds that a disk which it needs runs and does
// not answer; it gives the volume up and has another node attach it, to which it sends
// its requests as above. The same is done when the node that has attached a volume
// cannot be reached.
//
// A client at the other end of a connection is different: it may have gone to another node
// meanwhile, and have sent there again what had no answer, and more after that. What it
// has sent before must not be carried out then. So a change that has come by a connection
// is carried out by the attachment that the connection was opened with, or not at all:
// the connection is cut, and a client that is still there comes again (OpenFor).
//
// A snapshot of a volume that is attached is made between two requests: everything is
// flushed, one transaction makes another version the head, and the volume goes on
// there.
//
// # Allocated and changed
//
// Volumes and snapshots know what of them is allocated, and in the metadata contexts of
// ChangedSince what is not shared with a snapshot of the volume; see disk.Disk.Map.
//
// A volume grows while it is open: the node that has attached it prepares the groups of
// what is new, and serves it from then on; devices that were opened before keep their size.
//
// # Members
//
// A node joins by a token, at the door of any node that has one. It keeps its disks until
// they are forgotten; new ones are made where nothing else is. What an operator wants to
// do with nodes and disks is an Intent, of which Foresee says what it does and costs
// before Carry does it. A node that was forgotten is refused by its name and by its
// certificate; certificates do not expire otherwise. RecoverQuorum is for a cluster that
// has lost most of those who vote.
//
// # Stopping
//
// Close flushes and gives up all attachments before anything else, so that other
// nodes can take the volumes over at once; then it ends the lease, answers what other
// nodes have asked of its disks, and closes them. After a crash others have to wait
// until the lease is over.
package cluster
