package stream

import (
	"context"
	"iter"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// readAhead is how many pieces of a device are read at the same time: where it is a volume
// of a cluster each read waits for a network.
const readAhead = 8

// A readAheader reads what has changed on a device before it is needed.
type readAheader struct {
	dev block.Device
	// queue has what was begun, in order. free are buffers that can be used again.
	queue chan *readPiece
	free  chan []byte
	reads sync.WaitGroup
}

// A readPiece is a record whose payload, if it is to have one, is being read into buf.
type readPiece struct {
	r    record
	buf  []byte
	done chan struct{} // closed when err is known
	err  error
}

// copy writes what a device holds where it has changed.
func (x *writer) copy(ctx context.Context, dev block.Device, changes iter.Seq2[block.Extent, error]) error {
	ctx, cancel := context.WithCancel(ctx)
	a := readAheader{dev: dev, queue: make(chan *readPiece, readAhead), free: make(chan []byte, readAhead)}
	var walk sync.WaitGroup
	defer walk.Wait()
	defer cancel()
	var err error // of walking, when the queue is closed
	walk.Go(func() {
		defer close(a.queue)
		defer a.reads.Wait()
		err = a.walk(ctx, changes)
	})
	for p := range a.queue {
		if err := x.putPiece(p); err != nil {
			return err
		}
		if p.buf == nil {
			continue
		}
		select {
		case a.free <- p.buf:
		default:
		}
	}
	return err
}

func (x *writer) putPiece(p *readPiece) error {
	<-p.done
	if p.err != nil {
		return p.err
	}
	return x.put(p.r)
}

// walk begins to read all that has changed.
func (a *readAheader) walk(ctx context.Context, changes iter.Seq2[block.Extent, error]) error {
	for e, err := range changes {
		if err != nil {
			return err
		}
		if e.Status != snapshot.Changed {
			continue
		}
		for part, err := range block.MergeExtents(a.dev.Extents(ctx, block.Allocation, e.Off, e.Len)) {
			if err == nil {
				err = a.extent(ctx, part)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// extent begins to read what the device holds in an extent.
func (a *readAheader) extent(ctx context.Context, e block.Extent) error {
	if e.Status&block.Zero != 0 {
		p := &readPiece{r: record{typ: typeZero, off: e.Off, n: e.Len}, done: make(chan struct{})}
		close(p.done)
		return a.push(ctx, p)
	}
	for off := e.Off; off < e.End(); off += piece {
		p := &readPiece{r: record{typ: typeData, off: off, n: min(piece, e.End()-off)}, done: make(chan struct{})}
		select {
		case p.buf = <-a.free:
		default:
		}
		if p.buf == nil {
			p.buf = make([]byte, piece)
		}
		a.reads.Go(func() { p.read(ctx, a.dev) })
		if err := a.push(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// push hands a piece to the writer, and waits when there are enough.
func (a *readAheader) push(ctx context.Context, p *readPiece) error {
	select {
	case a.queue <- p:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// read reads the piece.
func (p *readPiece) read(ctx context.Context, dev block.Device) {
	defer close(p.done)
	p.r.payload = p.buf[:p.r.n]
	if p.err = dev.ReadAt(ctx, p.r.payload, p.r.off, 0); p.err == nil && block.IsZero(p.r.payload) {
		p.r.typ, p.r.payload = typeZero, nil
	}
}
