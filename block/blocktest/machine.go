package blocktest

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/strata-storage/strata/block"
)

// A Machine is a computer whose power can be cut. Its disks have volatile
// caches: a write survives a cut if it was flushed or made with FUA, and else
// perhaps, sector by sector. The same seed and the same requests in the same
// order lose the same sectors.
type Machine struct {
	mu    sync.Mutex
	seed  uint64
	rng   *rand.Rand
	disks []*Disk
	off   bool
	// cycle counts the restarts: what was opened in an earlier one is dead.
	cycle int
	// changes counts the requests of the kinds in Changes.
	changes int
	// cutAt is the change during which the power goes, 0 for none.
	cutAt   int
	cutIn   string
	outcome Outcome
}

// NewMachine returns a machine without disks. seed decides what power cuts
// leave.
func NewMachine(seed uint64) *Machine {
	return &Machine{seed: seed, rng: rand.New(rand.NewPCG(seed, 0x706f776572))}
}

// Disk adds a disk of zeros to the machine. It has the Size, MinBlock and
// MaxBlock of info and, as far as info says so, refuses changes, zeroes fast
// and honours NoWait, answering ErrWouldBlock at random.
func (m *Machine) Disk(info block.Info) *Disk {
	m.mu.Lock()
	defer m.mu.Unlock()
	info.Contexts = nil
	info.CheapExtents, info.Trims, info.NativeFUA = true, true, true
	d := &Disk{machine: m, number: len(m.disks), info: info, now: content{}, durable: content{}, cache: map[int64][]version{}}
	m.disks = append(m.disks, d)
	return d
}

// Cut cuts the power of all disks at once. Requests fail with block.ErrIO from
// now on, those of devices opened before for ever.
func (m *Machine) Cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.off = true
}

// CutAfter makes the n-th of the following writes, zeros, trims and flushes of
// all disks, counted from 1, the last one: the power goes while it is under
// way, so that it fails and each sector of it survives or not. 0 takes the
// order back.
func (m *Machine) CutAfter(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cutAt = 0
	if n > 0 {
		m.cutAt = m.changes + n
	}
}

// Off reports whether the power is off.
func (m *Machine) Off() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.off
}

// Survive says what the next cuts leave of the caches. Without it each cut
// chooses at random for each disk.
func (m *Machine) Survive(o Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outcome = o
}

// Restart switches the power on, after cutting it if it was on. Each disk
// holds what survived, with an empty cache, and can be opened again.
func (m *Machine) Restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.disks {
		d.lose(m.rng, m.outcome)
	}
	m.off, m.cutAt, m.cutIn = false, 0, ""
	m.cycle++
}

// Counts returns what the disks did since the machine was made, in total.
func (m *Machine) Counts() Counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	var sum Counts
	for _, d := range m.disks {
		sum.add(d.counts)
	}
	return sum
}

// change counts op and reports whether the power goes during it.
func (m *Machine) change(d *Disk, op Op) (cut bool) {
	m.changes++
	if m.changes != m.cutAt {
		return false
	}
	m.off = true
	m.cutIn = fmt.Sprintf("%v of disk %d", op, d.number)
	return true
}

// Counts are numbers of successful requests and of the bytes they moved.
type Counts struct {
	Reads, Writes, Zeros, Trims, Flushes int64
	// FUAs are the writes, zeros and trims with the flag FUA.
	FUAs int64
	// ReadBytes and WriteBytes are the lengths of reads and writes.
	ReadBytes, WriteBytes int64
}

func (c *Counts) add(o Counts) {
	c.Reads += o.Reads
	c.Writes += o.Writes
	c.Zeros += o.Zeros
	c.Trims += o.Trims
	c.Flushes += o.Flushes
	c.FUAs += o.FUAs
	c.ReadBytes += o.ReadBytes
	c.WriteBytes += o.WriteBytes
}

// note counts op.
func (c *Counts) note(op Op) {
	switch op.Kind {
	case Read:
		c.Reads++
		c.ReadBytes += op.Len
	case Write:
		c.Writes++
		c.WriteBytes += op.Len
	case Zero:
		c.Zeros++
	case Trim:
		c.Trims++
	case Flush:
		c.Flushes++
	}
	if op.Flags&block.FUA != 0 && op.Kind&(Write|Zero|Trim) != 0 {
		c.FUAs++
	}
}
