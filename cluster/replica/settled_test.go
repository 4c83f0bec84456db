package replica

import (
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// settled attaches the volumes once more, and again, and waits until nothing is marked
// any more and all is equal.
func (s *sim) settled() {
	for i := range 2 * len(simVolumes) {
		volume, all := i%len(simVolumes), i >= len(simVolumes)
		var err error
		for range 60 {
			if p := s.process(s.rand.n(simNodes)); p != nil {
				if err = s.settleOn(p, volume, all); err == nil {
					break
				}
			}
			sleep(s.ctx, time.Second)
		}
		if err != nil {
			s.t.Errorf("volume %s did not come to rest: %v", simVolumes[volume], err)
			return
		}
	}
}

// settleOn attaches a volume and settles it. If all are settled, it compares all copies.
func (s *sim) settleOn(p *process, volume int, all bool) (err error) {
	l, err := coord.NewLease(p.ctx, p.store, simTTL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Revoke(p.ctx)) }()
	v, err := s.attachBy(p, l, volume, nil)
	if err != nil {
		return err
	}
	defer func() { _ = v.Close() }()
	buf := make([]byte, simBlocks*disk.BlockSize)
	for b := range simBlocks {
		o := op{begin: s.now(), who: "end"}
		q := buf[b*disk.BlockSize : (b+1)*disk.BlockSize]
		if err := v.ReadAt(p.ctx, q, int64(b)*disk.BlockSize, 0); err != nil {
			return err
		}
		s.sawRead(volume, o, []int{b}, q)
	}
	if err := v.Flush(p.ctx); err != nil {
		return err
	}
	if _, err := v.Tidy(p.ctx); err != nil {
		return err
	}
	if !all {
		return nil // the other volume may have marked objects
	}
	if n, err := v.Tidy(p.ctx); err != nil || n > 0 {
		return errors.Join(err, fmt.Errorf("%d objects are still marked", n))
	}
	return s.sameEverywhere(volume, buf)
}

// sameEverywhere compares what the members have.
func (s *sim) sameEverywhere(volume int, want []byte) error {
	for _, g := range simNumbers {
		rec, _ := s.state.Group(g)
		if len(rec.Joining) > 0 || len(rec.Members) != simCopies {
			return fmt.Errorf("group %d has %d members, %d join", g, len(rec.Members), len(rec.Joining))
		}
		if err := s.compare(g, rec.Members, volume, want); err != nil {
			return err
		}
	}
	return nil
}

// compare compares the disks with each other, and with what the head reads.
func (s *sim) compare(g int, members []record.Member, volume int, want []byte) error {
	var first things
	for _, m := range members {
		id := nodeOf(m.Disk)
		now, err := s.nodes[id].store.content(s.ctx)
		if err != nil {
			return err
		}
		if first == nil {
			first = now
		}
		for i := range simObjects {
			o := disk.Object{Family: simFamily, Index: uint64(i)}
			same := func(a, b cell) bool {
				return a.kind == b.kind && a.sum == b.sum && (b.kind != disk.Data || crc32.Checksum(b.data[:], castagnoli) == b.sum)
			}
			if GroupOf(o, simCopies, simGroups) == g && !maps.EqualFunc(first[o], now[o], same) {
				return fmt.Errorf("object %v of disk %d is %v, of the first %v", o, id, now[o], first[o])
			}
		}
	}
	h, _ := s.state.View().Head(simVolumes[volume])
	for _, b := range blocksOf(g) {
		head := s.readFrom(first, b, h.Name.Record.Head)
		if v, _ := valueOf(head); string(head) != string(want[b*disk.BlockSize:(b+1)*disk.BlockSize]) {
			return fmt.Errorf("group %d, block %d has %d", g, b, v)
		}
		for _, of := range s.frozen[volume] {
			s.sawFrozen(volume, b, of, s.readFrom(first, b, of.version))
		}
	}
	return nil
}

// readFrom reads what a version has at a block of a disk.
func (s *sim) readFrom(t things, b int, version uint64) []byte {
	f, _ := s.state.View().Families.Get(simFamily)
	for version > 0 {
		switch c := t[disk.Object{Family: simFamily, Index: uint64(b / simPer)}][entryKey{version, uint32(b % simPer)}]; c.kind {
		case disk.Data:
			return c.data[:]
		case disk.Hole:
			return make([]byte, disk.BlockSize)
		}
		v, _ := f.Versions.Get(version)
		version = v.Parent
	}
	return make([]byte, disk.BlockSize)
}
