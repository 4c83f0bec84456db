// Package disk is one disk of a cluster node: the objects of volumes, with all
// their versions, on any block device.
//
// An object is one fixed-size piece of a volume. All versions of an object lie
// together, so that a disk can answer by itself what a version reads: for each
// block of 4 KiB, what the nearest ancestor has that has the block, and zeros if
// there is none. Writes go to a version without children, block by block; a
// snapshot, which is a child in the family's tree (package family), costs
// nothing here, and the first write after it costs what every write does.
//
// # Where things are
//
//	slab      a block.Device: blocks of 4 KiB, and a superblock
//	metadata  a key-value store (pebble): where each block is, its CRC-32C,
//	          and what is free
//
// A block that belongs to the version that is written is overwritten in place,
// any other gets a place of its own, contiguous with its neighbours where that
// is possible, in extents of up to 64 KiB.
//
// # What is durable when
//
// Changes are noted in memory, and reach the metadata with the next flush: a
// barrier on the slab, and then one batch of the metadata with one sync of its
// log. Everybody who waits shares it. So data are durable before the metadata
// that name them, and the metadata never name a place whose content is something
// else. A place that was freed is used again when the metadata that free it are
// durable. A batch in which nothing has a new place does not wait for the barrier:
// either way it is not known of what was overwritten, see below.
//
// What was written and not flushed is lost or not, sector by sector, when the
// power fails. Overwriting in place then leaves blocks that are neither what the
// metadata say nor damaged, and replicas that differ. To know which these can
// be, an object is marked dirty, durably, before the first change reaches the
// slab, until whoever compares the replicas calls Clear. A checksum that does
// not fit is an unfinished write ([ErrUnfinished]) in an object that was dirty
// when the power failed, and rot ([ErrRot]) anywhere else.
//
// # Comparing disks
//
// Each object has a digest of its blocks, kept up to date with each change, so
// that two disks compare a placement group by listing some bytes per object. The
// objects are kept in the order of [Object.Hash], of which a placement group is
// a range.
//
// # Space
//
// New places are refused with block.ErrNoSpace while there is still room for
// what must always work: overwriting, deleting, repairing, and the metadata
// themselves.
//
// # Failure
//
// After an error of the file system of the metadata the disk has failed: every
// method returns ErrFailed, and what is stored is what was stored before. Errors
// of the slab are errors of the requests that met them; if it cannot be flushed,
// changes fail as well when too many are waiting for it.
//
// The formats are described in docs/format-cluster-disk.md.
package disk
