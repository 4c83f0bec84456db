package upkeep

import (
	"cmp"
	"time"
)

// Options say how often what is done. The zero value is sensible; what is negative is
// never done by itself.
type Options struct {
	// Digests is how long after a comparison of digests the next one begins, a day
	// if it is 0. Data is the same for verifying all data, a week if it is 0.
	Digests, Data time.Duration
	// First is how long after the start of the node that is done on a disk on which it
	// never was, 10 minutes if it is 0.
	First time.Duration
	// Again is when doomed versions that others needed are looked at again, an hour if it
	// is 0.
	Again time.Duration
	// Save is how often what disks say about themselves is put into their records, if it
	// has changed: a minute if it is 0.
	Save time.Duration
	// Unreadable is how many blocks of a disk may not be readable until it counts as
	// failed, 64 if it is 0.
	Unreadable int
}

func (o Options) withDefaults() Options {
	o.Digests = cmp.Or(o.Digests, 24*time.Hour)
	o.Data = cmp.Or(o.Data, 7*24*time.Hour)
	o.First = cmp.Or(o.First, 10*time.Minute)
	o.Again = cmp.Or(o.Again, time.Hour)
	o.Save = cmp.Or(o.Save, time.Minute)
	o.Unreadable = cmp.Or(o.Unreadable, 64)
	return o
}
