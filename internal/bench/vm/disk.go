package vm

import (
	"context"
	"fmt"
)

// A disk is a block device with the snapshots that a contender has of it. Its
// snapshots have numbers, from 1 on.
type disk interface {
	// path is the block device of the disk.
	path() string
	snapshot() error
	// newest is the number of the snapshot that was taken last.
	newest() int
	// oldest is the block device of the first snapshot, until close.
	oldest() (string, error)
	delete(number int) error
	// rollback sets the disk back.
	rollback(number int) error
	// forget deletes the snapshot that the disk was set back to, if it is
	// still there.
	forget(number int) error
	// settle waits until nothing is done in the background.
	settle() error
	// stored is how many bytes are in use for snapshots.
	stored() (int64, error)
	close() error
}

// A contender is a way to have snapshots.
type contender struct {
	name string
	most int // snapshots, 0 for any number
	// devices says how many raw devices it wants.
	devices int
	open    func(ctx context.Context, g *guest, devices []string) (disk, error)
}

// A family has a raw disk, which all others of it are compared with.
type family struct{ raw, contenders []contender }

const (
	// smallSlots and largeSlots are how many snapshots dm-snapshot has in
	// one device with chunks of 4 and 64 KiB: the oldest of them gets a copy
	// of all that is written for the first time in any round.
	smallSlots = 11
	largeSlots = 3
)

// kernelRaw is the raw disk of the kernel.
const kernelRaw = "dm-linear"

func families() []family {
	return []family{
		{[]contender{{kernelRaw, 0, 1, openLinear}}, []contender{
			{"dm-snapshot 4 KiB", smallSlots - 1, 2, kernelSnapshots(chunk, smallSlots)},
			{"dm-snapshot 64 KiB", largeSlots - 1, 2, kernelSnapshots(64<<10, largeSlots)},
			{"dm-thin 64 KiB", 0, 2, openThin},
		}},
		{[]contender{{"raw over NBD", 0, 1, openOurs("")}}, []contender{
			{"staged", 0, 2, openOurs("staged")},
			{"redirect", 0, 2, openOurs("redirect")},
			{"copyout", 0, 2, openOurs("copyout")},
		}},
	}
}

// linear is a disk without snapshots.
type linear struct {
	m    *mapper
	name string
	dev  string
}

// openLinear opens the raw disk of the kernel.
func openLinear(_ context.Context, g *guest, devices []string) (disk, error) {
	return g.filled(devices[0])
}

// linear makes a device of a part of another.
func (g *guest) linear(of string, from, bytes int64) (*linear, error) {
	g.made++
	l := &linear{m: g.mapper, name: fmt.Sprintf("linear%d", g.made)}
	var err error
	l.dev, err = g.mapper.create(l.name, bytes/sector, "linear", "%s %d", of, from/sector)
	return l, err
}

// filled makes a device of the first bytes of another and gives it content.
func (g *guest) filled(of string) (*linear, error) {
	l, err := g.linear(of, 0, g.size())
	if err != nil {
		return nil, err
	}
	return l, on(l.dev, func(c *client) error { return c.fill(g.size()) })
}

func (l *linear) path() string            { return l.dev }
func (l *linear) snapshot() error         { return nil }
func (l *linear) oldest() (string, error) { return l.dev, nil }
func (l *linear) newest() int             { return 0 }
func (l *linear) delete(int) error        { return nil }
func (l *linear) forget(int) error        { return nil }
func (l *linear) rollback(int) error      { return nil }
func (l *linear) settle() error           { return nil }
func (l *linear) stored() (int64, error)  { return 0, nil }
func (l *linear) close() error            { return l.m.remove(l.name) }
