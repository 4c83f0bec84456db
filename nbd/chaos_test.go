package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// A fickleDevice answers some requests with NoWait only without it, having
// spoiled their range, and fails or panics as often as faults says.
type fickleDevice struct {
	block.Pass
	faults float64
}

func (d *fickleDevice) Info() block.Info {
	i := d.Pass.Info()
	i.NoWait = true
	return i
}

func (d *fickleDevice) mood(flags block.Flags) error {
	switch x := rand.Float64(); {
	case x < d.faults/2:
		panic("a bad mood")
	case x < d.faults:
		return block.ErrIO
	case flags&block.NoWait != 0 && x > 0.7:
		return block.ErrWouldBlock
	}
	return nil
}

func (d *fickleDevice) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := d.mood(flags); err != nil {
		for i := range p {
			p[i] = 0xee
		}
		return err
	}
	return d.Pass.ReadAt(ctx, p, off, flags)
}

func (d *fickleDevice) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := d.mood(flags); err != nil {
		d.Pass.WriteAt(ctx, p[:len(p)/2], off, flags)
		return err
	}
	return d.Pass.WriteAt(ctx, p, off, flags)
}

func (d *fickleDevice) Flush(ctx context.Context) error {
	if err := d.mood(0); err != nil {
		return err
	}
	return d.Pass.Flush(ctx)
}

// Requests that change from the reader to a worker half way keep the contract,
// in the least memory that there can be.
func TestServerConformsWithFickleDevice(t *testing.T) {
	t.Parallel()
	for _, replies := range []Replies{SimpleReplies, StructuredReplies, ExtendedReplies} {
		t.Run(fmt.Sprint(replies), func(t *testing.T) {
			t.Parallel()
			blocktest.Run(t, func(t testing.TB) block.Device {
				d := toServer(t, &Server{
					Exports: Exports{{Device: &fickleDevice{Pass: block.Pass{Device: block.FromBytes(make([]byte, 1<<20))}}}},
					Limits:  Limits{Payload: 1 << 20, ConnBytes: 1 << 20, Bytes: 1 << 20, Requests: 2},
				})
				d.Replies, d.Conns = replies, 2
				return dialTest(t, d, "nbd:///")
			}, blocktest.Seeds(1))
		})
	}
}

// countingResolver counts the exports in use.
type countingResolver struct {
	device block.Device
	inUse  atomic.Int64
}

func (r *countingResolver) Resolve(context.Context, *ExportRequest) (*Export, error) {
	r.inUse.Add(1)
	return &Export{Device: r.device, Release: func() { r.inUse.Add(-1) }}, nil
}

func (r *countingResolver) List(context.Context, *Peer) ([]*Export, error) {
	return nil, errors.New("not now")
}

// Whatever clients and devices do, nothing is left of a connection that has
// ended: no memory lent, no export in use, no goroutine that Shutdown would
// have to wait for.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	for name, noWait := range map[string]bool{"in line": true, "worker": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fickle := &fickleDevice{block.Pass{Device: block.FromBytes(make([]byte, 4<<20))}, 0.05}
			exports := &countingResolver{device: &infoDevice{block.Pass{Device: fickle}, func(i *block.Info) { i.NoWait = noWait }}}
			s := &Server{
				Exports: exports, TLS: TLSOptional, TLSConfig: testTLS(t),
				Limits: Limits{Payload: 1 << 20, ConnBytes: 2 << 20, Bytes: 4 << 20, Requests: 4},
			}
			var clients sync.WaitGroup
			for range 6 {
				clients.Go(func() {
					for i := range 8 {
						p := connect(t, s)
						wildClient(p, i%2 == 0)
						p.conn.Close()
						s.Drain(func(ConnStatus) bool { return rand.IntN(20) == 0 })
					}
				})
			}
			clients.Wait()
			if err := s.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if n, m := lent(s), exports.inUse.Load(); n != 0 || m != 0 {
				t.Errorf("%d bytes are still lent, %d exports in use", n, m)
			}
		})
	}
}

// wildClient sends requests of every kind, most of them right, and leaves in
// one of many ways. It may find itself drained at any time.
func wildClient(p *rawPeer, secure bool) {
	hello := []byte{0, 0, 0, 3}
	io.ReadFull(p.conn, make([]byte, 18))
	if secure {
		p.conn.Write(append(hello, optionBytes(optStartTLS, nil)...))
		io.ReadFull(p.conn, make([]byte, 20))
		p.conn = tls.Client(p.conn, &tls.Config{InsecureSkipVerify: true})
		hello = nil
	}
	switch rand.IntN(3) {
	case 0:
		hello, p.extended = append(hello, optionBytes(optExtendedHeaders, nil)...), true
	case 1:
		hello = append(hello, optionBytes(optStructuredReply, nil)...)
	}
	for opt, data := range map[option][]byte{optSetMetaContext: queryData("", block.Allocation), optInfo: infoData("")} {
		hello = append(hello, optionBytes(opt, data)...)
	}
	p.conn.Write(append(hello, optionBytes(optGo, infoData(""))...))
	taken := make(chan struct{})
	go func() {
		defer close(taken)
		io.CopyN(io.Discard, p.conn, rand.Int64N(20<<20))
	}()
	for i := range uint64(80) {
		b := wildRequest(p.extended, i)
		if rand.IntN(200) == 0 {
			b = b[:rand.IntN(len(b))]
		}
		p.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // nobody takes replies any more
		if _, err := p.conn.Write(b); err != nil {
			return
		}
	}
	if c, ok := p.conn.(interface{ CloseWrite() error }); ok && rand.IntN(2) == 0 {
		c.CloseWrite()
		p.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		<-taken
	}
}

func wildRequest(extended bool, cookie uint64) []byte {
	cmd, off, n := command(rand.IntN(9)), rand.Uint64N(4<<20), rand.Uint64N(5000)
	if cmd == cmdDisc && rand.IntN(20) > 0 {
		cmd = cmdWrite
	}
	if rand.IntN(4) == 0 {
		n = rand.Uint64N(1 << 20)
	}
	flags := uint16(0)
	if rand.IntN(10) == 0 {
		flags = cmdFlagFUA
	}
	if rand.IntN(30) == 0 {
		flags |= uint16(rand.IntN(64))
	}
	if extended && cmd == cmdWrite {
		flags |= cmdFlagPayloadLen
	}
	var payload []byte
	if !extended && cmd == cmdWrite || extended && flags&cmdFlagPayloadLen != 0 {
		payload = make([]byte, n)
	}
	return requestBytes(extended, cmd, flags, cookie, off, n, payload)
}
