package disk

import "sync/atomic"

// counters are what Stats has counted.
type counters struct{ flushes, marks, rot, unfinished, repaired atomic.Uint64 }

// Stats says how a disk is doing.
type Stats struct {
	// Size is the room in bytes for blocks, Used what is taken, and Free what
	// can be written before writes fail with block.ErrNoSpace. What has been
	// freed counts when it is durable.
	Size, Used, Free int64
	// Full: a write was refused for want of room, and none has been freed since.
	Full bool
	// MetaFull: the file system of the metadata has less room than MetaReserve, so
	// that no new places are given out.
	MetaFull bool
	// Unflushed is the number of pieces of 64 KiB that are kept in memory, as
	// their changes are not durable.
	Unflushed int64
	// Flushes counts barriers, Marks objects that became dirty, Rot and
	// Unfinished the times that a block did not have its checksum, and Repaired
	// the entries that Repair has replaced, since the disk was opened.
	Flushes, Marks, Rot, Unfinished, Repaired uint64
}

// LookForRoom finds out whether the file system of the metadata has room. It is looked at
// when something is written, too, but others may fill it and make room in it.
func (d *Disk) LookForRoom() {
	d.lookForRoom(0)
	if b := d.cfg.ballast; b != nil {
		if free, ok := room(&d.cfg); ok {
			b.take(free - d.cfg.MetaReserve/8*9)
		}
	}
}

// Stats returns figures of the moment.
func (d *Disk) Stats() Stats {
	s := d.space
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Size:       int64(s.size) * BlockSize,
		Used:       (int64(s.size) - s.total) * BlockSize,
		Free:       max(0, s.total-s.reserve) * BlockSize,
		Full:       s.full,
		MetaFull:   s.starved,
		Unflushed:  d.unflushed.Load(),
		Flushes:    d.stats.flushes.Load(),
		Marks:      d.stats.marks.Load(),
		Rot:        d.stats.rot.Load(),
		Unfinished: d.stats.unfinished.Load(),
		Repaired:   d.stats.repaired.Load(),
	}
	if s.starved {
		st.Free = 0
	}
	return st
}
