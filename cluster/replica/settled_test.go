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

// settled attaches the volume once more and waits until all is equal and nothing is
// marked any more.
func (s *sim) settled() {
	var err error
	for range 40 {
		if p := s.process(s.rand.n(simNodes)); p != nil {
			if err = s.settleOn(p); err == nil {
				return
			}
		}
		sleep(s.ctx, time.Second)
	}
	s.t.Errorf("it did not come to rest: %v", err)
}

func (s *sim) settleOn(p *process) error {
	l, err := coord.NewLease(p.ctx, p.store, simTTL)
	if err != nil {
		return err
	}
	defer func() { _ = l.Revoke(p.ctx) }()
	h, tree, generation, err := claimHead(p, l)
	if err != nil {
		return err
	}
	defer func() { _ = Release(p.ctx, p.store, h, generation) }()
	v, err := Attach(p.ctx, Config{
		Groups: &Groups{p.store}, Agreed: p.mirror, Trees: p.mirror, Peer: s.peer(p), Lease: l, Head: h, Generation: generation,
		Tree: tree, Size: simBlocks * disk.BlockSize, ObjectSize: simPer * disk.BlockSize, Copies: simCopies, Count: simGroups,
	})
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
		s.sawRead(o, []int{b}, q)
	}
	if err := v.Flush(p.ctx); err != nil {
		return err
	}
	if _, err := v.Tidy(p.ctx); err != nil {
		return err
	}
	if n, err := v.Tidy(p.ctx); err != nil || n > 0 {
		return errors.Join(err, fmt.Errorf("%d objects are still marked", n))
	}
	return s.sameEverywhere(buf)
}

// sameEverywhere compares what the members have.
func (s *sim) sameEverywhere(want []byte) error {
	for _, g := range simNumbers {
		rec, _, err := (&Groups{s.store}).Get(s.ctx, g)
		if err != nil {
			return err
		}
		if len(rec.Joining) > 0 || len(rec.Members) < simCopies {
			return fmt.Errorf("group %d has %d members, %d join", g, len(rec.Members), len(rec.Joining))
		}
		if err := s.compare(g, rec.Members, want); err != nil {
			return err
		}
	}
	return nil
}

// compare compares the disks with each other, and with what the head reads.
func (s *sim) compare(g int, members []record.Member, want []byte) error {
	var first things
	for _, m := range members {
		var id int
		fmt.Sscanf(m.Disk, "d%d", &id)
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
	list, _, err := versions(s.ctx, s.store)
	if err != nil {
		return err
	}
	for b := range simBlocks {
		if GroupOf(disk.Object{Family: simFamily, Index: uint64(b / simPer)}, simCopies, simGroups) != g {
			continue
		}
		head := first.read(b, list[len(list)-1].ID)
		if v, _ := valueOf(head); string(head) != string(want[b*disk.BlockSize:(b+1)*disk.BlockSize]) {
			return fmt.Errorf("group %d, block %d has %d", g, b, v)
		}
		// A snapshot has what was read when it was made.
		for _, o := range s.frozen {
			v, err := valueOf(first.read(b, o.value))
			if err != nil {
				s.t.Errorf("block %d of snapshot %d: %v", b, o.value, err)
			}
			s.ops[b] = append(s.ops[b], op{kind: reads, value: v, begin: o.begin, end: o.end, who: o.who})
		}
	}
	return nil
}

// read returns what a version reads at a block; each is the child of the one before.
func (t things) read(b int, version uint64) []byte {
	for ; version > 0; version-- {
		switch c := t[disk.Object{Family: simFamily, Index: uint64(b / simPer)}][entryKey{version, uint32(b % simPer)}]; c.kind {
		case disk.Data:
			return c.data[:]
		case disk.Hole:
			return make([]byte, disk.BlockSize)
		}
	}
	return make([]byte, disk.BlockSize)
}
