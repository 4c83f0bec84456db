package cluster

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/strata-storage/strata/block"
)

// Units of a ledger.
const (
	ledgerBlock  = 4096
	ledgerSector = 512
)

// A ledger writes to a device, and knows for each block what must be there.
type ledger struct {
	mu      sync.Mutex
	number  uint64 // of writes
	flushes int
	blocks  []entry
	stop    chan struct{}
	done    sync.WaitGroup
	errs    []error
	// ctx is that of requests.
	ctx    context.Context
	cancel context.CancelFunc
}

// An entry is what is known of a block: writes to it that have begun, the last that
// has returned, and the last that a flush covers.
type entry struct {
	begun          []uint64
	acked, durable uint64
	// failed: a write has failed, which may have been done or not.
	failed bool
}

func newLedger(size int64) *ledger {
	l := &ledger{blocks: make([]entry, size/ledgerBlock)}
	l.again()
	return l
}

// work writes, reads and flushes until end is called or something fails.
func (l *ledger) work(dev block.Device, seed uint64) {
	const writers = 4
	share := len(l.blocks) / writers
	for w := range writers {
		// Each writer has blocks of its own, so that it knows what it reads.
		rnd := rand.New(rand.NewPCG(seed, uint64(w)))
		l.done.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				if err := l.step(dev, rnd, w*share, share); err != nil {
					l.mu.Lock()
					l.errs = append(l.errs, err)
					l.mu.Unlock()
					return
				}
			}
		})
	}
}

func (l *ledger) step(dev block.Device, rnd *rand.Rand, first, count int) error {
	n := rnd.IntN(8) + 1
	at := first + rnd.IntN(count-n)
	ctx := l.ctx
	switch rnd.IntN(16) {
	case 0:
		return l.flush(ctx, dev)
	case 1, 2, 3, 4:
		return l.read(ctx, dev, at, n, true)
	}
	return l.write(ctx, dev, at, n)
}

// end ends work, and returns what has failed.
func (l *ledger) end() []error {
	l.mu.Lock()
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.mu.Unlock()
	l.done.Wait()
	return l.errs
}

// crash ends work and what is under way.
func (l *ledger) crash() {
	l.cancel()
	l.end()
}

func (l *ledger) write(ctx context.Context, dev block.Device, at, n int) error {
	l.mu.Lock()
	l.number++
	number := l.number
	for i := range n {
		l.blocks[at+i].begun = append(l.blocks[at+i].begun, number)
	}
	l.mu.Unlock()
	p := make([]byte, n*ledgerBlock)
	for i := 0; i < len(p); i += ledgerSector {
		stamp(p[i:i+ledgerSector], number, at*ledgerBlock+i)
	}
	err := dev.WriteAt(ctx, p, int64(at)*ledgerBlock, 0)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range n {
		e := &l.blocks[at+i]
		if e.failed = err != nil; err == nil {
			e.acked = number
		}
	}
	return err
}

// stamp fills a sector with what says which write it is of, and where it belongs.
func stamp(p []byte, number uint64, off int) {
	for i := 0; i < len(p); i += 16 {
		binary.LittleEndian.PutUint64(p[i:], number)
		binary.LittleEndian.PutUint64(p[i+8:], uint64(off))
	}
}

func (l *ledger) flush(ctx context.Context, dev block.Device) error {
	l.mu.Lock()
	acked := make([]uint64, len(l.blocks))
	for i := range l.blocks {
		acked[i] = l.blocks[i].acked
	}
	l.mu.Unlock()
	if err := dev.Flush(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushes++
	for i, number := range acked {
		l.blocks[i].durable = max(l.blocks[i].durable, number)
	}
	return nil
}

// read reads blocks and compares them with what was acknowledged, or if all is false
// with what was flushed: then later writes may be there or not, sector by sector.
func (l *ledger) read(ctx context.Context, dev block.Device, at, n int, all bool) error {
	p := make([]byte, n*ledgerBlock)
	if err := dev.ReadAt(ctx, p, int64(at)*ledgerBlock, 0); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	want := make([]byte, ledgerSector)
	for i := 0; i < len(p); i += ledgerSector {
		e := &l.blocks[at+i/ledgerBlock]
		sector := p[i : i+ledgerSector]
		number := binary.LittleEndian.Uint64(sector)
		clear(want)
		if number != 0 {
			stamp(want, number, at*ledgerBlock+i)
		}
		if string(want) != string(sector) {
			return fmt.Errorf("the sector at %d is not what any write has made: % x", at*ledgerBlock+i, sector[:32])
		}
		if err := e.allows(number, all); err != nil {
			return fmt.Errorf("the sector at %d: %w", at*ledgerBlock+i, err)
		}
	}
	return nil
}

// allows reports whether a block may have what a write has made, 0 being none.
func (e *entry) allows(number uint64, all bool) error {
	if all && number != e.acked && !e.failed {
		return fmt.Errorf("it has write %d, expected %d, the last of %v", number, e.acked, e.begun)
	}
	if number < e.durable {
		return fmt.Errorf("it has write %d, but %d was flushed", number, e.durable)
	}
	return nil
}

// verify reads everything.
func (l *ledger) verify(t testing.TB, dev block.Device, all bool) {
	t.Helper()
	const step = 64
	wrong := 0
	for at := 0; at < len(l.blocks); at += step {
		if err := l.read(t.Context(), dev, at, min(step, len(l.blocks)-at), all); err != nil {
			if wrong++; wrong <= 5 {
				t.Error(err)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	durable := 0
	for i := range l.blocks {
		if l.blocks[i].durable > 0 {
			durable++
		}
	}
	t.Logf("%d writes, %d flushes; %d blocks of %d were flushed, %d reads found what is wrong", l.number, l.flushes, durable, len(l.blocks), wrong)
}

// again lets work be called again.
func (l *ledger) again() {
	l.stop, l.errs = make(chan struct{}), nil
	l.ctx, l.cancel = context.WithCancel(context.Background())
}

// known accepts what is there now as what must be there, after a crash.
func (l *ledger) known(t testing.TB, dev block.Device) {
	t.Helper()
	const step = 64
	p := make([]byte, step*ledgerBlock)
	for i := range l.blocks {
		if i%step == 0 {
			must(t, dev.ReadAt(t.Context(), p, int64(i)*ledgerBlock, 0))
		}
		number := binary.LittleEndian.Uint64(p[i%step*ledgerBlock:])
		l.blocks[i] = entry{begun: []uint64{number}, acked: number, durable: l.blocks[i].durable}
	}
	l.again()
}
