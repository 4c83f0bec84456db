package stream

import (
	"context"
	"fmt"

	"github.com/strata-storage/strata/block"
)

// writeBehind is how many records are written to a device at the same time, as readAhead
// for reads.
const writeBehind = 16

// A behind writes to a device what has been read of a stream.
type behind struct {
	dev      block.Device
	progress func(end int64) // or nil
	queue    []*writePiece   // that were begun, in order
	end      int64           // of them, the greatest
	free     [][]byte
}

// A writePiece is a record that is being written.
type writePiece struct {
	r    record
	seq  uint32
	done chan error
}

// begin begins to write a record, whose payload is kept until that has ended. The error may
// be that of an earlier one. Where a stream goes back it waits for what is under way, as
// writes of the same place have no order.
func (b *behind) begin(ctx context.Context, x *reader, r record) error {
	p := &writePiece{r, x.seq - 1, make(chan error, 1)}
	if err := b.check(r); err != nil {
		return p.failed(err)
	}
	most := writeBehind - 1
	if r.off < b.end {
		most = 0
	}
	if err := b.wait(most); err != nil {
		return err
	}
	if x.buf = nil; len(b.free) > 0 {
		last := len(b.free) - 1
		x.buf, b.free = b.free[last], b.free[:last]
	}
	b.queue = append(b.queue, p)
	b.end = max(b.end, r.off+r.n)
	go func() {
		if r.typ == typeZero {
			p.done <- b.dev.Zero(ctx, r.off, r.n, 0)
			return
		}
		p.done <- b.dev.WriteAt(ctx, r.payload, r.off, 0)
	}()
	return nil
}

func (b *behind) check(r record) error {
	info := b.dev.Info()
	return info.CheckChange(r.off, r.n)
}

func (p *writePiece) failed(err error) error { return fmt.Errorf("record %d: %w", p.seq, err) }

// wait waits until no more than so many are under way.
func (b *behind) wait(most int) error {
	for len(b.queue) > most {
		p := b.queue[0]
		b.queue = b.queue[1:]
		if err := <-p.done; err != nil {
			return p.failed(err)
		}
		b.free = append(b.free, p.r.payload)
		b.tell(p.r)
	}
	if len(b.queue) == 0 {
		b.end = 0
	}
	return nil
}

// tell tells that a record has been written.
func (b *behind) tell(r record) {
	if b.progress != nil {
		b.progress(r.off + r.n)
	}
}

// abandon waits until nothing is under way, whatever comes of it.
func (b *behind) abandon() {
	for _, p := range b.queue {
		<-p.done
	}
}
