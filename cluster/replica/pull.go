package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
)

// pullFirst pulls an object that a client is about to zero.
func (m *Member) pullFirst(ctx context.Context, p *pass, r *Request) error {
	s := m.sourceAt(p.record, r.Group, r.Epoch)
	p.joining.begin(s.member)
	err := m.pull(ctx, p.joining, s, r.Object())
	if err != nil && !errors.Is(err, ErrEpoch) {
		err = fmt.Errorf("disk %s pulls object %v: %w", m.c.ID, r.Object(), err)
	}
	return err
}

// batch is how many blocks are moved at a time, and fetchers how many requests are made
// for them at the same time.
const (
	batch    = MaxRaw
	fetchers = 8
)

// A pulling is an object that is made what it is at the source, in steps.
type pulling struct {
	m *Member
	j *joining
	s source
	o disk.Object
	// began: it is known what differs. That are fixes that have to be made; of check nobody
	// knows yet, as equal metadata say nothing of data that a power loss has left undefined.
	began bool
	fixes []disk.Fix
	check []disk.Entry
	raw   *rawBlocks
}

// pull makes an object what it is at the source.
func (m *Member) pull(ctx context.Context, j *joining, s source, o disk.Object) error {
	return m.pullIn(ctx, j, s, o, atOnce)
}

// pullPaced is pull when it may be.
func (m *Member) pullPaced(ctx context.Context, j *joining, s source, o disk.Object) error {
	return m.pullIn(ctx, j, s, o, m.pace())
}

// pace says when Join does what.
func (m *Member) pace() Pace {
	if m.c.Pace != nil {
		return m.c.Pace
	}
	return atOnce
}

// atOnce is a Pace.
func atOnce(ctx context.Context, step Step) error {
	for {
		if more, _, err := step(ctx, batch); err != nil || !more {
			return err
		}
	}
}

// pullIn is pull in steps that are called by pace.
func (m *Member) pullIn(ctx context.Context, j *joining, s source, o disk.Object, pace Pace) error {
	if !j.starts(o) {
		return nil
	}
	p := pulling{m: m, j: j, s: s, o: o, raw: raws.Get().(*rawBlocks)}
	defer raws.Put(p.raw)
	if err := pace(ctx, p.step); err != nil {
		return err
	}
	// What is dirty there becomes dirty here, after what was read there, and before this
	// disk may be a member.
	dirty, err := isDirty(ctx, s, o)
	if err == nil && dirty {
		err = m.c.Disk.Mark(ctx, o)
	}
	if err != nil {
		return err
	}
	j.done(o, s.member)
	return nil
}

// step does the next step, of so many blocks at most. It returns how many bytes have moved.
func (p *pulling) step(ctx context.Context, n int) (more bool, moved int64, err error) {
	n = min(n, batch)
	switch {
	case !p.began:
		err = p.begin(ctx)
	case len(p.check) > 0:
		err = p.verify(ctx, n)
	default:
		n = min(n, len(p.fixes))
		if moved, err = p.m.fetch(ctx, p.s, p.o, p.fixes[:n], p.raw); err == nil {
			err = p.apply(ctx, p.fixes[:n])
		}
		p.fixes = p.fixes[n:]
	}
	return len(p.check)+len(p.fixes) > 0, moved, err
}

// begin finds out what differs.
func (p *pulling) begin(ctx context.Context) error {
	all := uint32(disk.MaxObject / disk.BlockSize)
	theirs, err := p.s.peer.Entries(ctx, p.s.to, p.o, 0, all)
	if err != nil {
		return err
	}
	mine, err := p.m.entries(ctx, p.o, 0, all)
	if err != nil {
		return err
	}
	_, unsettled, err := p.m.dirty(ctx, p.o)
	if err != nil {
		return err
	}
	fixes, same := compare(mine, theirs)
	p.began, p.fixes = true, p.j.left(p.o, fixes)
	if unsettled {
		p.check = same
	}
	return nil
}

// rawBlocks has the content of a batch. raws are those that nobody uses.
type rawBlocks [batch * disk.BlockSize]byte

var raws = sync.Pool{New: func() any { return new(rawBlocks) }}

// verify finds out which of the next data a power loss has left undefined, or cannot be read:
// they are to be fixed.
func (p *pulling) verify(ctx context.Context, most int) error {
	first, n := p.check[0], 1
	for n < min(len(p.check), most) && p.check[n].Version == first.Version && p.check[n].Block == first.Block+uint32(n) {
		n++
	}
	list, err := p.m.c.Disk.RawBlocks(ctx, p.o, first.Version, first.Block, p.raw[:n*disk.BlockSize], nil)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var bad []disk.Fix
	for i, e := range p.check[:n] {
		if err != nil || list[i] == e && crc32.Checksum(p.raw[i*disk.BlockSize:(i+1)*disk.BlockSize], castagnoli) != e.Sum {
			bad = append(bad, disk.Fix{Was: e, Kind: disk.Data})
		}
	}
	p.check = p.check[n:]
	p.fixes = append(p.fixes, p.j.left(p.o, bad)...)
	return nil
}

// apply carries out fixes, but for what clients have written meanwhile.
func (p *pulling) apply(ctx context.Context, fixes []disk.Fix) error {
	m := p.m
	// Nobody who is inside at a later epoch may see this happen.
	to := To{m.c.ID, m.c.Incarnation, p.s.to.Group, p.s.to.Epoch}
	in, err := m.admit(ctx, &to)
	if err != nil {
		return err
	}
	defer in.leave()
	lock, err := p.j.locks.Lock(ctx, place(p.o), 1)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	fixes = p.j.left(p.o, fixes)
	if len(fixes) == 0 {
		return nil
	}
	_, err = m.c.Disk.Repair(ctx, p.o, 0, fixes)
	return err
}

func isDirty(ctx context.Context, s source, o disk.Object) (bool, error) {
	// All of one hash come together.
	list, _, err := s.peer.Dirty(ctx, s.to, o.Hash())
	return slices.ContainsFunc(list, func(d disk.DirtyObject) bool { return d.Object == o }), err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fetch gets the content of fixes, as it is at the source now, and returns how many bytes
// that were. The data of the fixes are in raw.
func (m *Member) fetch(ctx context.Context, s source, o disk.Object, fixes []disk.Fix, raw *rawBlocks) (moved int64, err error) {
	slices.SortFunc(fixes, func(a, b disk.Fix) int { return byPlace(a.Was, b.Was) })
	type run struct {
		fixes []disk.Fix
		p     []byte
	}
	var runs []run
	p := raw[:len(fixes)*disk.BlockSize]
	for len(fixes) > 0 {
		n := 1
		for first := fixes[0].Was; fixes[0].Kind == disk.Data && n < len(fixes); n++ {
			f := &fixes[n]
			if f.Kind != disk.Data || f.Was.Version != first.Version || f.Was.Block != first.Block+uint32(n) {
				break
			}
		}
		if fixes[0].Kind == disk.Data {
			runs = append(runs, run{fixes[:n], p[:n*disk.BlockSize]})
			moved += int64(n) * disk.BlockSize
		}
		fixes, p = fixes[n:], p[n*disk.BlockSize:]
	}
	return moved, each(len(runs), fetchers, func(i int) error { return m.fetchRun(ctx, s, o, runs[i].fixes, runs[i].p) })
}

// fetchRun gets the content of blocks that follow each other.
func (m *Member) fetchRun(ctx context.Context, s source, o disk.Object, run []disk.Fix, p []byte) error {
	list, err := s.peer.RawBlocks(ctx, s.to, o, run[0].Was.Version, run[0].Was.Block, p)
	if err != nil {
		return err
	}
	if len(list) != len(run) {
		return fmt.Errorf("disk %s has sent %d blocks, expected %d: %w", s.member.Disk, len(list), len(run), block.ErrIO)
	}
	for i, e := range list {
		f := &run[i]
		if f.Kind, f.Data, f.Summed = e.Kind, nil, false; e.Kind != disk.Data {
			continue
		}
		f.Data = p[i*disk.BlockSize : (i+1)*disk.BlockSize]
		if crc32.Checksum(f.Data, castagnoli) == e.Sum {
			f.Sum, f.Summed = e.Sum, true
			continue
		}
		if err := m.fetchElsewhere(ctx, s, o, f, e); err != nil {
			return err
		}
	}
	return nil
}

// fetchElsewhere gets the content of a block that the source has lost.
func (m *Member) fetchElsewhere(ctx context.Context, s source, o disk.Object, f *disk.Fix, want disk.Entry) error {
	for _, other := range s.others {
		q := make([]byte, disk.BlockSize)
		to := To{other.Disk, other.Incarnation, s.to.Group, s.to.Epoch}
		list, err := m.c.Peer(other).RawBlocks(ctx, to, o, f.Was.Version, f.Was.Block, q)
		if err == nil && len(list) == 1 && list[0] == want && crc32.Checksum(q, castagnoli) == want.Sum {
			f.Data = q
			return nil
		}
	}
	// What is left of an unfinished write. The next attachment makes all members
	// the same.
	return m.c.Disk.Mark(ctx, o)
}

// byPlace orders entries by version and block: there is one for each.
func byPlace(a, b disk.Entry) int {
	return cmp.Or(cmp.Compare(a.Version, b.Version), cmp.Compare(a.Block, b.Block))
}

// compare returns the fixes that make entries others, without their data, and those of
// the data that are the same. Both are in the order of their places afterwards, as are
// what comes out.
func compare(mine, theirs []disk.Entry) (fixes []disk.Fix, same []disk.Entry) {
	slices.SortFunc(mine, byPlace)
	slices.SortFunc(theirs, byPlace)
	for len(mine) > 0 || len(theirs) > 0 {
		order := 0
		switch {
		case len(theirs) == 0:
			order = -1
		case len(mine) == 0:
			order = 1
		default:
			order = byPlace(mine[0], theirs[0])
		}
		switch {
		case order < 0:
			fixes = append(fixes, disk.Fix{Was: mine[0], Kind: disk.None})
		case order > 0:
			e := theirs[0]
			fixes = append(fixes, disk.Fix{Was: disk.Entry{Version: e.Version, Block: e.Block}, Kind: e.Kind})
		case mine[0] != theirs[0]:
			fixes = append(fixes, disk.Fix{Was: mine[0], Kind: theirs[0].Kind})
		case mine[0].Kind == disk.Data:
			same = append(same, mine[0])
		}
		if order <= 0 {
			mine = mine[1:]
		}
		if order >= 0 {
			theirs = theirs[1:]
		}
	}
	return fixes, same
}
