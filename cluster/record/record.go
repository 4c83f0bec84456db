// Package record is what a cluster agrees on, as entries of a coord.Store: nodes,
// disks, placement groups, volumes, versions, attachments and background jobs.
// Data never go through it.
//
// Keys are made of parts with slashes between them, numbers of 16 hexadecimal
// digits, so that their order is that of the numbers. Values are JSON.
//
//	pool                     Pool: made once, with the cluster
//	next                     Next: what new families are called
//	node/ID                  Node: what is known of a node, whether it lives or not
//	run/ID                   Run: leased; a process of that node is alive
//	disk/ID                  Disk: what is known of a disk
//	group/NUMBER             Group: who has the objects of a placement group
//	name/NAME                Name: which head a volume of that name is
//	volume/FID               Volume: how the objects of a family are made and spread
//	version/FID/VID          Version: one version, see package family
//	snapshot/FID/LINE/NAME   Snapshot: which version a snapshot of that name is
//	attach/FID/LINE          Attachment: leased; who may write that head
//	delete/FID               Deletion: which versions all disks take apart now
//	health/ID                Health: what a disk says about itself, and how far its
//	                         scrubs have come
//
// The revision of an entry is its version. That of a group is its epoch, that of an
// attachment its generation. Whoever changes, adds or removes a version also puts
// the volume of the family: its revision is the revision of the family's tree, and
// to compare it is to compare the whole tree. Each of them is compared by the
// transaction that replaces it.
//
// # Lines
//
// A snapshot of a volume is its head of until now; what is written goes to a new
// version from then on. So the head changes, and what stays the same for as long as
// a volume exists, whatever it is called, is its line: the ID of its first version.
// Attachments and the names of snapshots belong to a line.
//
// # Following and changing
//
// A [State] is a copy of all this that follows the store. A [Catalog] makes the
// transactions on volumes, each of which costs the same for any size of the volume
// and number of versions.
package record

import "time"

// Format is the version of these records that this program writes and reads.
const Format = 1

// A Pool says how objects are spread. It never changes, but for its format.
type Pool struct {
	// Cluster is the name of the cluster, 32 hexadecimal digits.
	Cluster string `json:"cluster"`
	// Format is the version of these records.
	Format int `json:"format"`
	// Groups is the number of placement groups, a power of two, for each number
	// of copies that volumes have. See [Volume.Group].
	Groups int `json:"groups"`
}

// A Next is what the next family is called. IDs of families are never given twice.
type Next struct {
	Family uint64 `json:"family"`
}

// A Node is a process with disks, or without, on one machine.
type Node struct {
	ID string `json:"id"`
	// Name is for people.
	Name string `json:"name"`
	// Zone is what fails together; its own ID if nobody said anything else.
	Zone string `json:"zone"`
	// Draining: its disks are to have nothing.
	Draining bool `json:"draining,omitempty"`
	// Votes is the URL at which its member listens to other voters, if it has one.
	// Without it the node never votes.
	Votes string `json:"votes,omitempty"`
	// Starts is what its data directory counted when it was started last: how often it
	// was, and has noted that it goes on.
	Starts int64 `json:"starts,omitempty"`
	// Serial is the number of its certificate, by which it is refused when it was
	// expelled.
	Serial string `json:"serial,omitempty"`
}

// A Run is a node that is alive.
type Run struct {
	// Incarnation is another one with each start of the process.
	Incarnation string `json:"incarnation"`
	// Peers, Exports and Control are the addresses for other nodes, for clients
	// of volumes, and for orders.
	Peers   string `json:"peers"`
	Exports string `json:"exports,omitempty"`
	Control string `json:"control,omitempty"`
	Version string `json:"version"`
}

// A Disk is one disk of a node.
type Disk struct {
	ID   string `json:"id"`
	Node string `json:"node"`
	// Size is its capacity in bytes, Weight what placement counts, which is the
	// same if nobody said anything else. 0 drains it.
	Size   int64 `json:"size"`
	Weight int64 `json:"weight"`
	// Failed says why nothing may be read from it any more, if that is so.
	Failed string `json:"failed,omitempty"`
}

// A Member is a disk that holds a placement group, in one incarnation of its
// process: one that was started anew may have lost what was not flushed, and has
// to be compared first.
type Member struct {
	Disk        string `json:"disk"`
	Incarnation string `json:"incarnation"`
	// Since is the epoch of the record that it was added to: a disk that was
	// removed and came back is another member, for whoever missed that.
	Since int64 `json:"since,omitempty"`
}

// A Group is who has the objects of a placement group. Its epoch is the revision of
// its entry.
type Group struct {
	// Members have all that was acknowledged, Joining get all new writes and
	// miss older ones. No disk is in both, or twice.
	Members []Member `json:"members"`
	Joining []Member `json:"joining,omitempty"`
	// Revived counts how often all members had been started anew, and the group
	// went on with what they had flushed.
	Revived uint64 `json:"revived,omitempty"`
}

// A Name is the name of a volume.
type Name struct {
	Family uint64 `json:"family"`
	// Line is the first version of the volume, Head the one that is written under
	// this name now. A family has several, one for each clone.
	Line uint64 `json:"line"`
	Head uint64 `json:"head"`
	// Size is that of the volume in bytes.
	Size int64 `json:"size"`
	// Snapshots is the number of its snapshots.
	Snapshots int       `json:"snapshots,omitempty"`
	Created   time.Time `json:"created"`
}

// A Volume is a family of versions. The revision of its entry is that of the tree.
type Volume struct {
	Family uint64 `json:"family"`
	// ObjectSize is a power of two. Copies are wanted, MinCopies needed for writes,
	// see [View.Needed]. Zones is among how many zones they are spread at least.
	ObjectSize int64 `json:"objectSize"`
	Copies     int   `json:"copies"`
	MinCopies  int   `json:"minCopies"`
	Zones      int   `json:"zones,omitempty"`
	// NextVersion is greater than the ID of each version there ever was.
	NextVersion uint64 `json:"nextVersion"`
}

// A Version is one version of a family: a head, a snapshot, or doomed, when nobody
// can read it any more and a background job takes it apart.
type Version struct {
	ID     uint64 `json:"id"`
	Parent uint64 `json:"parent,omitempty"`
	Doomed bool   `json:"doomed,omitempty"`
	// Line is the first version of the volume that it is, or was, of.
	Line uint64 `json:"line"`
	// Name and Size are a snapshot's. The size of a head is that of its volume.
	Name string `json:"name,omitempty"`
	Size int64  `json:"size,omitempty"`
	// Origin says what a snapshot is a copy of that was imported: the ID of that one.
	// See [View.SnapshotID].
	Origin string `json:"origin,omitempty"`
	// Created is when it became what it is.
	Created time.Time `json:"created"`
}

// A Snapshot is the name of one.
type Snapshot struct {
	Version uint64 `json:"version"`
}

// An Attachment is the right of a gateway to write the head of one volume. Its generation is the
// revision of its entry.
type Attachment struct {
	Node        string `json:"node"`
	Incarnation string `json:"incarnation"`
}
