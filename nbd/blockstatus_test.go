package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
)

// statusDevice has the extents that a test wants, the same in each context.
type statusDevice struct {
	block.Pass
	info    func(*block.Info)
	extents []block.Extent
}

func (d *statusDevice) Info() block.Info {
	i := d.Pass.Info()
	i.Contexts = []string{"x:y"}
	d.info(&i)
	return i
}

func (d *statusDevice) Extents(_ context.Context, _ string, off, n int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		for _, e := range d.extents {
			from, to := max(e.Off, off), min(e.End(), off+n)
			if from < to && !yield(block.Extent{Off: from, Len: to - from, Status: e.Status}, nil) {
				return
			}
		}
	}
}

// statusOf asks for the status of a range in all contexts and returns length
// and status of each extent, context by context.
func statusOf(p *rawPeer, flags uint16, off, n uint64) (lists [][][2]uint64) {
	p.send(cmdBlockStatus, flags, 1, off, n, nil)
	for _, c := range p.chunks(1) {
		var list [][2]uint64
		switch c.kind {
		case chunkBlockStatus:
			for d := c.data[4:]; len(d) > 0; d = d[8:] {
				list = append(list, [2]uint64{uint64(binary.BigEndian.Uint32(d)), uint64(binary.BigEndian.Uint32(d[4:]))})
			}
		case chunkBlockStatusExt:
			for d := c.data[8:]; len(d) > 0; d = d[16:] {
				list = append(list, [2]uint64{binary.BigEndian.Uint64(d), binary.BigEndian.Uint64(d[8:])})
			}
		default:
			list = append(list, [2]uint64{0, uint64(c.code())})
		}
		lists = append(lists, list)
	}
	return lists
}

// openContexts opens the export with both contexts of a statusDevice.
func openContexts(p *rawPeer, extended bool) *rawPeer {
	opt := optStructuredReply
	if extended {
		opt = optExtendedHeaders
	}
	p.hello().expect(repAck, opt, nil)
	p.expect(repAck, optSetMetaContext, queryData("", block.Allocation, "x:y"))
	p.expect(repAck, optGo, infoData(""))
	p.extended = extended
	return p
}

// The extents that a client is told consist of whole blocks. A block of which
// parts differ is a hole, or zero, if all of it is; in other contexts it has
// the bits of all its parts.
func TestExtentsAreWholeBlocks(t *testing.T) {
	t.Parallel()
	const hole = block.Hole | block.Zero
	dev := &statusDevice{
		Pass: block.Pass{Device: block.FromBytes(make([]byte, 64<<10))},
		info: func(i *block.Info) { i.MinBlock = 4096 },
		extents: []block.Extent{
			{Off: 0, Len: 4096, Status: hole}, {Off: 4096, Len: 5000, Status: hole}, {Off: 9096, Len: 1000, Status: block.Zero},
			{Off: 10096, Len: 100, Status: hole}, {Off: 10196, Len: 20000, Status: 0}, {Off: 30196, Len: 35340, Status: hole},
		},
	}
	s := &Server{Exports: Exports{{Device: dev}}}
	for _, extended := range []bool{false, true} {
		p := openContexts(connect(t, s), extended)
		for _, test := range []struct {
			flags  uint16
			off, n uint64
			want   string
		}{
			{0, 0, 64 << 10, "[[[8192 3] [24576 0] [32768 3]] [[12288 3] [16384 0] [36864 3]]]"},
			{0, 8192, 4096, "[[[4096 0]] [[4096 3]]]"},
			{0, 4096, 8192, "[[[4096 3] [4096 0]] [[8192 3]]]"},
			{cmdFlagReqOne, 0, 64 << 10, "[[[8192 3]] [[12288 3]]]"},
		} {
			if got := fmt.Sprint(statusOf(p, test.flags, test.off, test.n)); got != test.want {
				t.Errorf("extended=%v: %d bytes at %d: %s, expected %s", extended, test.n, test.off, got, test.want)
			}
		}
	}
}

// A status of more than 32 bits is told with extended headers only, and never
// cut short.
func TestWideStatus(t *testing.T) {
	t.Parallel()
	const wide = 1<<40 | 1
	dev := &statusDevice{
		Pass:    block.Pass{Device: block.FromBytes(make([]byte, 4096))},
		info:    func(*block.Info) {},
		extents: []block.Extent{{Off: 0, Len: 512, Status: 1}, {Off: 512, Len: 3584, Status: wide}},
	}
	s := &Server{Exports: Exports{{Device: dev}}}
	narrow, extended := openContexts(connect(t, s), false), openContexts(connect(t, s), true)
	if got := statusOf(extended, 0, 0, 4096)[0]; !slices.Equal(got, [][2]uint64{{512, 1}, {3584, wide}}) {
		t.Errorf("extended: %v", got)
	}
	if got := statusOf(narrow, 0, 0, 4096)[0]; !slices.Equal(got, [][2]uint64{{512, 1}}) {
		t.Errorf("what fits: %v", got)
	}
	if got := statusOf(narrow, 0, 512, 512)[0]; !slices.Equal(got, [][2]uint64{{0, uint64(wireEINVAL)}}) {
		t.Errorf("what does not: %v", got)
	}
	narrow.alive()
}

// BLOCK_STATUS works within the least memory that a connection can have.
func TestBlockStatusInLittleMemory(t *testing.T) {
	t.Parallel()
	dev := &busyDevice{Pass: block.Pass{Device: block.FromBytes(make([]byte, 1<<20))}}
	s := &Server{Exports: Exports{{Device: dev}}, Limits: Limits{Payload: 64 << 10, ConnBytes: 64 << 10, Bytes: 64 << 10}}
	p := connect(t, s).openExtended()
	payload := append(binary.BigEndian.AppendUint64(nil, 1<<20), 0, 0, 0, 1)
	const n = 64
	go p.conn.Write(bytes.Repeat(requestBytes(true, cmdBlockStatus, cmdFlagPayloadLen, 1, 0, uint64(len(payload)), payload), n))
	for range n {
		if all := p.chunks(1); len(all) != 1 || len(all[0].data) != 8+16*maxExtents {
			t.Fatalf("%d chunks, the first of type %d with %d bytes", len(all), all[0].kind, len(all[0].data))
		}
	}
	p.alive()
}

// Of a device that has very much to look at, and nothing to tell, there is an answer about a
// part of the range after a second.
func TestStatusInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		looked := 0
		slow := func(yield func(block.Extent, error) bool) {
			for off := int64(0); ; off += 1 << 20 {
				time.Sleep(statusTime / 10)
				looked++
				if !yield(block.Extent{Off: off, Len: 1 << 20, Status: block.Hole}, nil) {
					return
				}
			}
		}
		for _, limit := range []int{1, 1000} {
			looked = 0
			list, err := collect(slow, limit, true)
			if err != nil || len(list) != 1 || list[0] != (block.Extent{Len: int64(looked) << 20, Status: block.Hole}) || looked < 9 || looked > 12 {
				t.Errorf("limit %d: %v, %v after %d looks", limit, list, err, looked)
			}
		}
	})
}
