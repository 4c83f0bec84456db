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
	"github.com/strata-storage/strata/cluster/record"
)

// batch is how many blocks are moved at a time, and fetchers how many requests are made
// for them at the same time.
const (
	batch    = MaxRaw
	fetchers = 8
)

// Join makes the disk, which is in the record of a group as a joining one, a member.
// It goes on through changes of the record, and returns nil when the disk is a member.
// The error is ErrNoMember if the disk is removed; after any error Join may be
// called again, and goes on where it was. If there is no room for what the group has, it
// leaves the record unless writes need it, and the error wraps block.ErrNoSpace.
func (m *Member) Join(ctx context.Context, groups *Groups, number int) error {
	for {
		err := m.join(ctx, groups, number)
		var stale *EpochError
		switch {
		case full(err):
			return errors.Join(err, m.decline(ctx, groups, number))
		case !errors.As(err, &stale):
			return err
		}
		if err := m.c.Agreed.Wait(ctx, stale.Known); err != nil {
			return err
		}
	}
}

// decline takes the disk out of the record of a group that it joins.
func (m *Member) decline(ctx context.Context, groups *Groups, number int) error {
	rec, _ := m.c.Agreed.Group(number)
	copies, _ := record.SplitGroup(number)
	for _, o := range rec.Joining {
		if o.Disk == m.c.ID && o.Incarnation == m.c.Incarnation {
			return groups.decline(ctx, number, o, m.c.Agreed.Needed(copies))
		}
	}
	return nil
}

// join is Join at one epoch.
func (m *Member) join(ctx context.Context, groups *Groups, number int) error {
	_, epoch, err := groups.Get(ctx, number)
	if err != nil {
		return err
	}
	rec, epoch, err := m.known(ctx, number, epoch)
	if err != nil {
		return err
	}
	to := To{m.c.ID, m.c.Incarnation, number, epoch}
	p, err := m.admit(ctx, &to)
	if err != nil {
		return err
	}
	// It does not stay inside: it would keep the next epoch out.
	p.leave()
	if p.role == belongs {
		return nil
	}
	j := p.joining
	j.stay(epoch)
	s := m.sourceAt(rec, number, epoch)
	j.begin(s.member)
	if err := m.forget(ctx, number); err != nil {
		return err
	}
	if err := m.pullAll(ctx, j, s); err != nil {
		return err
	}
	if err := m.c.Disk.Flush(ctx); err != nil {
		return err
	}
	if !j.promote(epoch) {
		return &EpochError{number, epoch}
	}
	next, err := groups.promote(ctx, number, j.as, epoch)
	var stale *EpochError
	if errors.As(err, &stale) {
		return err
	}
	if err != nil {
		return fmt.Errorf("it is not known whether disk %s is a member of group %d: %w", m.c.ID, number, err)
	}
	return m.c.Agreed.Wait(ctx, next)
}

// pullAll pulls what differs, and what is asked for again meanwhile.
func (m *Member) pullAll(ctx context.Context, j *joining, s source) error {
	if err := m.pullListed(ctx, j, s); err != nil {
		return err
	}
	first, last := m.rangeOf(s.to.Group)
	for d, err := range m.c.Disk.Dirty(ctx, first, last) {
		// Equal metadata say nothing of these.
		if err == nil && d.Unsettled && m.has(s.to.Group, d.Object) {
			err = m.pullPaced(ctx, j, s, d.Object)
		}
		if err != nil {
			return err
		}
	}
	for {
		o, ok := j.rest()
		if !ok {
			return nil
		}
		if _, err := m.pull(ctx, j, s, o); err != nil {
			return err
		}
	}
}

// pullListed compares the lists of the two disks.
func (m *Member) pullListed(ctx context.Context, j *joining, s source) error {
	for from, more := uint64(0), true; more; {
		var theirs []disk.Summary
		var err error
		if theirs, more, err = s.peer.List(ctx, s.to, from); err != nil {
			return err
		}
		first, last := m.rangeOf(s.to.Group)
		first = max(first, from)
		if more {
			last = theirs[len(theirs)-1].Hash()
		}
		differ, err := m.differ(ctx, s.to.Group, first, last, theirs)
		if err != nil {
			return err
		}
		for _, o := range differ {
			if m.c.Progress != nil {
				m.c.Progress(ctx, m.position(s.to.Group, o))
			}
			if err := m.pullPaced(ctx, j, s, o); err != nil {
				return err
			}
		}
		from = last + 1
	}
	return nil
}

// pullPaced is pull when it may be.
func (m *Member) pullPaced(ctx context.Context, j *joining, s source, o disk.Object) error {
	pull := func() (int64, error) { return m.pull(ctx, j, s, o) }
	if m.c.Pace != nil {
		return m.c.Pace(ctx, pull)
	}
	_, err := pull()
	return err
}

// position is where an object is in its group, from 0 to 1.
func (m *Member) position(group int, o disk.Object) float64 {
	first, last := m.rangeOf(group)
	return float64(o.Hash()-first) / float64(last-first)
}

// differ returns the objects with hashes from one up to another that this disk has in
// another state.
func (m *Member) differ(ctx context.Context, group int, first, last uint64, theirs []disk.Summary) (list []disk.Object, err error) {
	states := make(map[disk.Object]uint64, len(theirs))
	for _, s := range theirs {
		states[s.Object] = s.Digest
	}
	for s, err := range m.c.Disk.List(ctx, first, last) {
		if err != nil {
			return nil, err
		}
		if !m.has(group, s.Object) {
			continue
		}
		if d, ok := states[s.Object]; !ok || d != s.Digest {
			list = append(list, s.Object)
		}
		delete(states, s.Object)
	}
	for _, s := range theirs {
		if _, ok := states[s.Object]; ok {
			list = append(list, s.Object)
		}
	}
	return list, nil
}

// pullFirst pulls an object that a client is about to zero.
func (m *Member) pullFirst(ctx context.Context, p *pass, r *Request) error {
	s := m.sourceAt(p.record, r.Group, r.Epoch)
	p.joining.begin(s.member)
	_, err := m.pull(ctx, p.joining, s, r.Object())
	if err != nil && !errors.Is(err, ErrEpoch) {
		err = fmt.Errorf("disk %s pulls object %v: %w", m.c.ID, r.Object(), err)
	}
	return err
}

// pull makes an object what it is at the source, and returns how many bytes moved.
func (m *Member) pull(ctx context.Context, j *joining, s source, o disk.Object) (moved int64, err error) {
	if !j.starts(o) {
		return 0, nil
	}
	all := uint32(disk.MaxObject / disk.BlockSize)
	theirs, err := s.peer.Entries(ctx, s.to, o, 0, all)
	if err != nil {
		return 0, err
	}
	mine, err := m.entries(ctx, o, 0, all)
	if err != nil {
		return 0, err
	}
	raw := raws.Get().(*rawBlocks)
	defer raws.Put(raw)
	fixes, same := compare(mine, theirs)
	bad, err := m.unfinished(ctx, o, same, raw)
	if err != nil {
		return 0, err
	}
	fixes = j.left(o, append(fixes, bad...))
	for again := true; again; again = len(fixes) > 0 {
		n := min(len(fixes), batch)
		k, err := m.fetch(ctx, s, o, fixes[:n], raw)
		moved += k
		if err != nil {
			return moved, err
		}
		if err := m.apply(ctx, j, s, o, fixes[:n]); err != nil {
			return moved, err
		}
		fixes = fixes[n:]
	}
	j.done(o, s.member)
	return moved, nil
}

// rawBlocks has the content of a batch. raws are those that nobody uses.
type rawBlocks [batch * disk.BlockSize]byte

var raws = sync.Pool{New: func() any { return new(rawBlocks) }}

// unfinished returns fixes for those of some data that a power loss has left undefined,
// or that cannot be read.
func (m *Member) unfinished(ctx context.Context, o disk.Object, data []disk.Entry, raw *rawBlocks) (fixes []disk.Fix, err error) {
	_, unsettled, err := m.dirty(ctx, o)
	if err != nil || !unsettled {
		return nil, err
	}
	slices.SortFunc(data, byPlace)
	for len(data) > 0 {
		first, n := data[0], 1
		for n < min(len(data), batch) && data[n].Version == first.Version && data[n].Block == first.Block+uint32(n) {
			n++
		}
		list, err := m.c.Disk.RawBlocks(ctx, o, first.Version, first.Block, raw[:n*disk.BlockSize], nil)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		for i, e := range data[:n] {
			if err != nil || list[i] == e && crc32.Checksum(raw[i*disk.BlockSize:(i+1)*disk.BlockSize], castagnoli) != e.Sum {
				fixes = append(fixes, disk.Fix{Was: e, Kind: disk.Data})
			}
		}
		data = data[n:]
	}
	return fixes, nil
}

// apply carries out fixes, but for what clients have written meanwhile.
func (m *Member) apply(ctx context.Context, j *joining, s source, o disk.Object, fixes []disk.Fix) error {
	// After what was read there.
	dirty, err := isDirty(ctx, s, o)
	if err != nil {
		return err
	}
	// Nobody who is inside at a later epoch may see this happen.
	to := To{m.c.ID, m.c.Incarnation, s.to.Group, s.to.Epoch}
	p, err := m.admit(ctx, &to)
	if err != nil {
		return err
	}
	defer p.leave()
	if dirty {
		if err := m.c.Disk.Mark(ctx, o); err != nil {
			return err
		}
	}
	lock, err := j.locks.Lock(ctx, place(o), 1)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	fixes = j.left(o, fixes)
	if len(fixes) == 0 {
		return nil
	}
	_, err = m.c.Disk.Repair(ctx, o, 0, fixes)
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
		if f.Kind, f.Data = e.Kind, nil; e.Kind != disk.Data {
			continue
		}
		f.Data = p[i*disk.BlockSize : (i+1)*disk.BlockSize]
		if crc32.Checksum(f.Data, castagnoli) == e.Sum {
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

// entryKey is what there may be one entry for.
type entryKey struct {
	version uint64
	block   uint32
}

// byPlace orders entries by version and block.
func byPlace(a, b disk.Entry) int {
	return cmp.Or(cmp.Compare(a.Version, b.Version), cmp.Compare(a.Block, b.Block))
}

// compare returns the fixes that make entries others, without their data, and those of
// the data that are the same.
func compare(mine, theirs []disk.Entry) (fixes []disk.Fix, same []disk.Entry) {
	have := make(map[entryKey]disk.Entry, len(mine))
	for _, e := range mine {
		have[entryKey{e.Version, e.Block}] = e
	}
	for _, e := range theirs {
		key := entryKey{e.Version, e.Block}
		was, ok := have[key]
		if !ok {
			was = disk.Entry{Version: e.Version, Block: e.Block}
		}
		if was != e {
			fixes = append(fixes, disk.Fix{Was: was, Kind: e.Kind})
		} else if e.Kind == disk.Data {
			same = append(same, e)
		}
		delete(have, key)
	}
	for _, e := range mine {
		if _, ok := have[entryKey{e.Version, e.Block}]; ok {
			fixes = append(fixes, disk.Fix{Was: e, Kind: disk.None})
		}
	}
	return fixes, same
}
