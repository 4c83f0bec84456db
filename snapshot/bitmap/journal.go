package bitmap

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// A journal makes sets of pages durable in one piece. A transaction is a tag
// with a sequence number and checksums, and the pages as they will be in their
// home positions, to which a checkpoint writes them.
type journal struct {
	dev block.Device
	l   *layout
	// seq is the number of the next transaction, at its place from the
	// beginning of the journal, head the number of the newest header.
	seq, head uint64
	at        int64
	// logged are the newest pages of the journal by their home positions.
	logged map[int64][]byte
	// stale: a header must be written before the journal is used.
	stale bool
}

func (j *journal) read(ctx context.Context, at int64) ([]byte, error) {
	p := make([]byte, pageSize)
	return p, j.dev.ReadAt(ctx, p, at*pageSize, 0)
}

// page reads a page as it is after what is in the journal.
func (j *journal) page(ctx context.Context, at int64) ([]byte, error) {
	if p := j.logged[at]; p != nil {
		return p, nil
	}
	return j.read(ctx, at)
}

// writeHeader says that the journal begins anew.
func (j *journal) writeHeader(ctx context.Context, slot int64, head uint64) error {
	p := make([]byte, pageSize)
	le.PutUint64(p[32:], j.seq)
	seal(p, headerPage, firstHeader+slot, head, j.l.id())
	return j.dev.WriteAt(ctx, p, (firstHeader+slot)*pageSize, 0)
}

// load reads the headers and the transactions behind them.
func (j *journal) load(ctx context.Context, bad func(error)) error {
	j.logged, j.at = map[int64][]byte{}, 0
	found := false
	for slot := range int64(2) {
		p, err := j.read(ctx, firstHeader+slot)
		if err != nil {
			return err
		}
		if err := verify(p, headerPage, firstHeader+slot, j.l.id()); err != nil {
			j.stale = true
			bad(fmt.Errorf("the header of the journal: %w", err))
			continue
		}
		if n := le.Uint64(p[16:]); !found || n > j.head {
			found, j.head, j.seq = true, n, le.Uint64(p[32:])
		}
	}
	if !found {
		return fmt.Errorf("both headers of the journal are damaged: %w", snapshot.ErrDamaged)
	}
	for {
		more, err := j.loadOne(ctx)
		if err != nil || !more {
			return err
		}
	}
}

// loadOne reads the next transaction. One that is not complete is the end.
func (j *journal) loadOne(ctx context.Context) (bool, error) {
	if j.at+2 > j.l.journal {
		return false, nil
	}
	tag, err := j.read(ctx, firstJournal+j.at)
	if err != nil {
		return false, err
	}
	n := int64(le.Uint32(tag[32:]))
	if verify(tag, tagPage, firstJournal+j.at, j.l.id()) != nil || le.Uint64(tag[16:]) != j.seq || n < 1 || j.at+1+n > j.l.journal {
		return false, nil
	}
	data := make([]byte, n*pageSize)
	if err := j.dev.ReadAt(ctx, data, (firstJournal+j.at+1)*pageSize, 0); err != nil {
		return false, err
	}
	pages := map[int64][]byte{}
	for i := range n {
		e := tag[tagHead+i*tagEntry:]
		p := data[i*pageSize : (i+1)*pageSize]
		at := int64(le.Uint64(e))
		if sum(p) != le.Uint32(e[8:]) || at < j.l.state || at >= j.l.last {
			return false, nil
		}
		pages[at] = p
	}
	maps.Copy(j.logged, pages)
	j.at += 1 + n
	j.seq++
	return true, nil
}

// full reports whether there must be a checkpoint before n pages can be
// appended.
func (j *journal) full(n int) bool { return j.stale || j.at+1+int64(n) > j.l.journal }

// append writes a transaction. It is durable after the next flush, and
// belongs to the journal after accept.
func (j *journal) append(ctx context.Context, pages map[int64][]byte) error {
	n := int64(len(pages))
	if n+1 > j.l.journal {
		return fmt.Errorf("a transaction of %d blocks does not fit into a journal of %d: %w", n, j.l.journal, block.ErrNoSpace)
	}
	p := make([]byte, (1+n)*pageSize)
	tag := p[:pageSize]
	le.PutUint32(tag[32:], uint32(n))
	for i, at := range slices.Sorted(maps.Keys(pages)) {
		copy(p[(i+1)*pageSize:], pages[at])
		e := tag[tagHead+i*tagEntry:]
		le.PutUint64(e, uint64(at))
		le.PutUint32(e[8:], sum(pages[at]))
	}
	seal(tag, tagPage, firstJournal+j.at, j.seq, j.l.id())
	return j.dev.WriteAt(ctx, p, (firstJournal+j.at)*pageSize, 0)
}

// accept notes that the transaction that was appended is durable.
func (j *journal) accept(pages map[int64][]byte) {
	maps.Copy(j.logged, pages)
	j.at += 1 + int64(len(pages))
	j.seq++
}

// checkpoint writes the pages of the journal home, and empties it. What is in
// it must be durable. Only when the header is durable may the home positions
// be used for something else, as until then they could be written again.
func (j *journal) checkpoint(ctx context.Context) error {
	for _, at := range slices.Sorted(maps.Keys(j.logged)) {
		if err := j.dev.WriteAt(ctx, j.logged[at], at*pageSize, 0); err != nil {
			return err
		}
	}
	if err := j.dev.Flush(ctx); err != nil {
		return err
	}
	// When this fails, it is not known where the journal begins: nothing is
	// appended before both headers say the same. The one that is not the
	// newest comes first.
	both := j.stale
	j.stale = true
	head := j.head + 1
	for i, slot := range []int64{int64(head % 2), int64(j.head % 2)} {
		if i == 1 && !both {
			break
		}
		if err := j.writeHeader(ctx, slot, head); err != nil {
			return err
		}
		if err := j.dev.Flush(ctx); err != nil {
			return err
		}
	}
	j.head = head
	j.at, j.stale = 0, false
	clear(j.logged)
	return nil
}
