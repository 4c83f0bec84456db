package nbd

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/strata-storage/strata/block"
)

// lent is how many bytes of the memory of all connections are in use.
func lent(s *Server) int64 {
	return s.limits.Bytes - s.memory.Free()
}

// workerDevice is a device whose requests all go to workers.
func workerDevice(dev block.Device) *infoDevice {
	return &infoDevice{block.Pass{Device: dev}, func(i *block.Info) { i.NoWait = false }}
}

type panickyReads struct{ block.Pass }

func (panickyReads) ReadAt(context.Context, []byte, int64, block.Flags) error { panic("boom") }

func (panickyReads) WriteAt(context.Context, []byte, int64, block.Flags) error {
	panic("boom")
}

// A device that panics is a failed request, in a worker or in line, and costs
// no memory.
func TestPanicOfReadsAndWrites(t *testing.T) {
	t.Parallel()
	for _, noWait := range []bool{true, false} {
		s := func() *Server {
			dev := panickyReads{block.Pass{Device: block.FromBytes(make([]byte, 1<<20))}}
			return &Server{Exports: Exports{{Device: &infoDevice{block.Pass{Device: dev}, func(i *block.Info) { i.NoWait = noWait }}}}}
		}
		t.Run(fmt.Sprintf("noWait=%v", noWait), func(t *testing.T) {
			eachMode(t, s, func(t *testing.T, p *rawPeer, structured bool) {
				for _, n := range []uint64{512, 1 << 20} {
					if got := p.status(structured, cmdRead, 0, 0, n); got != wireEIO {
						t.Errorf("READ: error %d", got)
					}
					flags := uint16(0)
					if p.extended {
						flags = cmdFlagPayloadLen
					}
					p.send(cmdWrite, flags, 3, 0, n, make([]byte, n))
					if got := p.outcome(structured, cmdWrite, 3, 0); got != wireEIO {
						t.Errorf("WRITE: error %d", got)
					}
				}
				p.alive()
			})
		})
	}
	s := &Server{Exports: Exports{{Device: workerDevice(panickyReads{block.Pass{Device: block.FromBytes(make([]byte, 1<<20))}})}}}
	p := connect(t, s).open(false)
	p.status(false, cmdRead, 0, 0, 1<<20)
	p.send(cmdDisc, 0, 0, 0, 0, nil)
	p.result()
	if n := lent(s); n != 0 {
		t.Errorf("%d bytes are still lent", n)
	}
}

// Chunks that the reader has made ready leave before those that a worker makes
// of the rest of the same READ: nothing may follow the last chunk.
func TestNothingFollowsTheLastChunk(t *testing.T) {
	t.Parallel()
	for _, extended := range []bool{false, true} {
		mem := bytes.Repeat([]byte{1}, 1<<20)
		clear(mem[:pieceSize]) // whose chunk leaves room for others
		dev := &halfCached{block.Pass{Device: block.FromBytes(mem)}, make(chan struct{})}
		p := connect(t, &Server{Exports: Exports{{Device: dev}}})
		if extended {
			p.openExtended()
		} else {
			p.open(true)
		}
		// The second request keeps the reader busy, so that its replies wait,
		// until a chunk of the first one has come.
		p.write(append(requestBytes(extended, cmdRead, 0, 1, 0, 2*pieceSize, nil),
			requestBytes(extended, cmdRead, 0, 2, busyOffset, 512, nil)...))
		first, cookie := p.chunk()
		close(dev.received)
		if cookie != 1 || first.kind != chunkOffsetHole || first.flags&chunkFlagDone != 0 {
			t.Fatalf("extended=%v: the first chunk is of type %d for %d, flags %d", extended, first.kind, cookie, first.flags)
		}
		for left := 2; left > 0; left-- {
			if c, cookie := p.chunk(); c.kind != chunkOffsetData || c.flags&chunkFlagDone == 0 {
				t.Errorf("extended=%v: a chunk of type %d for %d, flags %d", extended, c.kind, cookie, c.flags)
			}
		}
	}
}

// busyOffset is where reads of halfCached take long.
const busyOffset = 900 << 10

// halfCached cannot read the second piece at once.
type halfCached struct {
	block.Pass
	received chan struct{}
}

func (d *halfCached) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	switch {
	case off == busyOffset:
		<-d.received
	case off >= pieceSize && flags&block.NoWait != 0:
		return block.ErrWouldBlock
	}
	return d.Pass.ReadAt(ctx, p, off, flags)
}

// Long writes in pieces keep to the blocks of the device.
func TestLongWritesKeepToBlocks(t *testing.T) {
	t.Parallel()
	for _, smallest := range []int{4096, 8192, 64 << 10} {
		strict := &strictDevice{block.Pass{Device: block.FromBytes(make([]byte, 1<<20))}, int64(smallest)}
		s := func() *Server {
			return &Server{Exports: Exports{{Device: &infoDevice{block.Pass{Device: strict}, func(i *block.Info) { i.MinBlock = smallest }}}}}
		}
		eachMode(t, s, func(t *testing.T, p *rawPeer, structured bool) {
			flags := uint16(0)
			if p.extended {
				flags = cmdFlagPayloadLen
			}
			const n = 512 << 10
			all := requestBytes(p.extended, cmdWrite, flags, 1, 64<<10, n, bytes.Repeat([]byte{7}, n))
			go func() {
				for len(all) > 0 {
					k := min(len(all), 50_001)
					p.conn.Write(all[:k])
					all = all[k:]
				}
			}()
			if got := p.outcome(structured, cmdWrite, 1, 0); got != 0 {
				t.Errorf("blocks of %d: error %d", smallest, got)
			}
		})
	}
}

// strictDevice refuses writes that are not of whole blocks.
type strictDevice struct {
	block.Pass
	unit int64
}

func (d *strictDevice) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if (off|int64(len(p)))%d.unit != 0 {
		return block.ErrInvalid
	}
	return d.Pass.WriteAt(ctx, p, off, flags)
}
