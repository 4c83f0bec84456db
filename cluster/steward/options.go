package steward

import (
	"cmp"
	"time"
)

// Options say how fast the steward does what. The zero value is sensible.
type Options struct {
	// Grace is how long a node may be away until its groups get copies elsewhere,
	// 10 minutes if it is 0. Urgent is the same for groups whose writes wait, 1
	// minute if it is 0. Revive is how long a group none of whose members lives
	// waits for others when the first one is back, 10 seconds if it is 0.
	Grace, Urgent, Revive time.Duration
	// Hold is how long a disk at most does not join a group again from which it was removed
	// by others while it lived, 1 minute if it is 0: whoever removed it had a reason, as
	// that it did not answer. It is 1 second the first time, and twice as long each time
	// until it has been a member for as long as that. One that is full does not join for
	// ten times as long while it stays full, and after once as long another disk may take
	// its place.
	Hold time.Duration
	// Joins is how many disks join groups at the same time in the whole cluster,
	// Disk how many groups a disk joins, and Source how many are pulled from it.
	// They are 1024, 256 and 256 if they are 0. Groups whose writes wait for a disk that
	// joins are not bound by that.
	Joins, Disk, Source int
	// Moves is how many of all those may be there only to move groups that have
	// all copies, 32 if it is 0, and MovesDisk how many groups a disk joins, or
	// are pulled from it, for such moves to begin: 4 if it is 0.
	Moves, MovesDisk int
	// Full is how many percent of a disk are used when no groups are moved to it
	// any more, 90 if it is 0.
	Full int
	// Batch is how many changes a plan has at most, 1024 if it is 0.
	Batch int
}

func (o Options) withDefaults() Options {
	o.Grace = cmp.Or(o.Grace, 10*time.Minute)
	o.Urgent = min(cmp.Or(o.Urgent, time.Minute), o.Grace)
	o.Revive = cmp.Or(o.Revive, 10*time.Second)
	o.Hold = cmp.Or(o.Hold, time.Minute)
	o.Joins = cmp.Or(o.Joins, 1024)
	o.Disk = cmp.Or(o.Disk, 256)
	o.Source = cmp.Or(o.Source, 256)
	o.Moves = cmp.Or(o.Moves, 32)
	o.MovesDisk = cmp.Or(o.MovesDisk, 4)
	o.Full = cmp.Or(o.Full, 90)
	o.Batch = cmp.Or(o.Batch, 1024)
	return o
}
