package blocktest

import (
	"maps"
	"slices"

	"github.com/strata-storage/strata/block"
)

// A Disk is a disk of a Machine: what stays when the device that Open returned
// is closed or its power is cut.
type Disk struct {
	machine *Machine
	number  int
	info    block.Info
	// now is what reads see, durable what is on stable storage. cache holds
	// for each sector the states since it was durable, the oldest first.
	// Machine.mu guards them.
	now, durable content
	cache        map[int64][]version
	counts       Counts
}

// content are the sectors that are not known to be zero. They are immutable.
type content map[int64]*[sectorSize]byte

// A version is a state of a sector in the cache.
type version struct {
	// change is the number of the request that made it.
	change int
	data   *[sectorSize]byte
}

// NewDevice returns the reference device: a disk of zeros in memory with this
// Info, as Machine.Disk describes it, that is simple and right.
func NewDevice(info block.Info) block.Device {
	return NewMachine(1).Disk(info).Open()
}

// Open returns the disk as a device, for as long as the power stays on. Close
// leaves the disk as it is, cache included; several devices of one disk see
// the same bytes.
func (d *Disk) Open() block.Device {
	d.machine.mu.Lock()
	defer d.machine.mu.Unlock()
	return &openDisk{disk: d, cycle: d.machine.cycle}
}

// Counts returns what the disk did since it was made.
func (d *Disk) Counts() Counts {
	d.machine.mu.Lock()
	defer d.machine.mu.Unlock()
	return d.counts
}

// read copies the bytes at off to p.
func (d *Disk) read(p []byte, off int64) {
	for len(p) > 0 {
		i, from := off/sectorSize, off%sectorSize
		k := min(sectorSize-int(from), len(p))
		if data := d.now[i]; data != nil {
			copy(p[:k], data[from:])
		} else {
			clear(p[:k])
		}
		p, off = p[k:], off+int64(k)
	}
}

// store makes c happen to every sector of its range that pick wants; a nil
// pick wants all.
func (d *Disk) store(c change, pick func() bool) {
	for _, i := range d.touched(c) {
		if pick == nil || pick() {
			d.storeSector(i, c)
		}
	}
}

// touched returns the numbers of the sectors that c may change, in order.
func (d *Disk) touched(c change) []int64 {
	first, end := c.off/sectorSize, (c.off+c.n+sectorSize-1)/sectorSize
	var list []int64
	if c.data != nil || end-first < int64(len(d.now)+len(d.cache)) {
		for i := first; i < end; i++ {
			list = append(list, i)
		}
		return list
	}
	// Elsewhere are zeros, and were when the disk was last durable.
	for i := range d.now {
		list = append(list, i)
	}
	for i := range d.cache {
		list = append(list, i)
	}
	slices.Sort(list)
	list = slices.Compact(list)
	return slices.DeleteFunc(list, func(i int64) bool { return i < first || i >= end })
}

func (d *Disk) storeSector(i int64, c change) {
	start := i * sectorSize
	from, to := max(c.off, start), min(c.off+c.n, start+sectorSize)
	var data [sectorSize]byte
	if old := d.now[i]; old != nil {
		data = *old
	}
	if c.data != nil {
		copy(data[from-start:], c.data[from-c.off:to-c.off])
	} else {
		clear(data[from-start : to-start])
	}
	image := &data
	if block.IsZero(data[:]) {
		image = nil
	}
	d.now.set(i, image)
	if c.durable {
		d.durable.set(i, image)
		delete(d.cache, i)
		return
	}
	d.cache[i] = append(d.cache[i], version{d.machine.changes, image})
}

func (c content) set(i int64, data *[sectorSize]byte) {
	if data == nil {
		delete(c, i)
	} else {
		c[i] = data
	}
}

// flush brings the cache to stable storage.
func (d *Disk) flush() {
	for i, list := range d.cache {
		d.durable.set(i, list[len(list)-1].data)
	}
	clear(d.cache)
}

// extents returns what Extents yields for the range.
func (d *Disk) extents(off, n int64) []block.Extent {
	var list []block.Extent
	add := func(to int64, status uint64) {
		to = min(to, off+n)
		from := off
		if k := len(list); k > 0 {
			from = list[k-1].End()
			if list[k-1].Status == status && to > from {
				list[k-1].Len += to - from
				return
			}
		}
		if to > from {
			list = append(list, block.Extent{Off: from, Len: to - from, Status: status})
		}
	}
	for _, i := range slices.Sorted(maps.Keys(d.now)) {
		if (i+1)*sectorSize <= off || i*sectorSize >= off+n {
			continue
		}
		add(i*sectorSize, block.Hole|block.Zero)
		add((i+1)*sectorSize, 0)
	}
	add(off+n, block.Hole|block.Zero)
	return list
}
