package nbd

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/strata-storage/strata/block"
)

// sendable is a device in memory that sends its bytes itself, a few at a time.
type sendable struct {
	block.Device
	mem   []byte
	sent  atomic.Int64
	limit int64 // after so many bytes it fails, if not 0
}

func newSendable(size int) *sendable {
	mem := make([]byte, size)
	for i := range mem {
		mem[i] = byte(i>>9) | 1
	}
	return &sendable{Device: block.FromBytes(mem), mem: mem}
}

func (d *sendable) CanSend(off int64, n int) bool { return off%(128<<10) != 64<<10 }

func (d *sendable) SendTo(sock uintptr, off int64, n int) (int, error) {
	if d.limit > 0 && d.sent.Load() >= d.limit {
		return 0, errors.New("the file is gone")
	}
	n, err := syscall.Write(int(sock), d.mem[off:off+int64(min(n, 30000))])
	d.sent.Add(int64(max(n, 0)))
	return max(n, 0), err
}

// Long reads of a file are sent by the device, in the order of the replies,
// whatever else is asked for.
func TestSendFile(t *testing.T) {
	t.Parallel()
	for _, structured := range []bool{false, true} {
		d := newSendable(4 << 20)
		p := connect(t, &Server{Exports: Exports{{Name: "disk", Device: d}}}).open(structured)
		reads := []struct{ off, n int }{
			{0, 32 << 10}, {512, 512}, {64 << 10, 40 << 10}, {1000, 1 << 20}, {128 << 10, 3 << 20}, {4096, 32<<10 - 1}, {4<<20 - 32<<10, 32 << 10},
		}
		var all []byte
		for i, r := range reads {
			all = append(all, requestBytes(false, cmdRead, 0, uint64(i), uint64(r.off), uint64(r.n), nil)...)
		}
		p.write(all)
		for range reads {
			got := make([]byte, 0, 3<<20)
			cookie := uint64(0)
			if structured {
				for done := false; !done; {
					var c chunk
					c, cookie = p.chunk()
					if c.kind != chunkOffsetData {
						t.Fatalf("chunk of kind %d", c.kind)
					}
					got, done = append(got, c.data[8:]...), c.flags&chunkFlagDone != 0
				}
			} else {
				head := p.read(simpleReplySize)
				cookie = uint64(head[15])
				got = append(got, p.read(reads[cookie].n)...)
			}
			r := reads[cookie]
			if !bytes.Equal(got, d.mem[r.off:r.off+r.n]) {
				t.Errorf("structured %v: read %d at %d is wrong", structured, r.n, r.off)
			}
		}
		if got, want := d.sent.Load(), int64(32<<10+1<<20+3<<20+32<<10); got != want {
			t.Errorf("the device has sent %d bytes, want %d", got, want)
		}
		p.alive()
	}
}

// A file that fails after the header was sent cannot be answered any more.
func TestSendFileFails(t *testing.T) {
	t.Parallel()
	d := newSendable(4 << 20)
	d.limit = 100_000
	p := connect(t, &Server{Exports: Exports{{Name: "disk", Device: d}}}).open(false)
	p.send(cmdRead, 0, 1, 0, 1<<20, nil)
	rest, _ := io.ReadAll(p.conn)
	if n := int64(len(rest)) - simpleReplySize; n != d.sent.Load() || n < d.limit {
		t.Errorf("got %d bytes of data, the device has sent %d", n, d.sent.Load())
	}
	if err := p.result(); err == nil || err.Error() != "nbd: the file is gone" {
		t.Error(err)
	}
}
