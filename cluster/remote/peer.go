package remote

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/replica"
	"github.com/strata-storage/strata/cluster/wire"
)

// MaxData is how much is read, written or repaired with one request. More becomes
// several, one after the other.
const MaxData = 4 << 20

// A Peer is the disks of another node.
type Peer struct {
	link *wire.Link
	// Timeout bounds each request, whatever its context
	// says: 10 s. It must not be changed once the Peer is used.
	Timeout time.Duration
}

var _ replica.Peer = (*Peer)(nil)

// NewPeer returns the Peer of the node that link leads to, which has Errors.
func NewPeer(link *wire.Link) *Peer { return &Peer{link: link, Timeout: 10 * time.Second} }

// scratch is memory for heads.
type scratch struct {
	head, back []byte
	in         reader
}

var scratches = sync.Pool{New: func() any { return &scratch{head: make([]byte, 0, 256), back: make([]byte, 0, 256)} }}

// do carries out a request whose reply fills Into, and calls got with the head of the
// reply. s is given back.
func (p *Peer) do(ctx context.Context, group int, s *scratch, r wire.Call, got func(*reader)) error {
	payload, err := p.exchange(ctx, group, s, r, got)
	if err != nil {
		return err
	}
	return checkLength(payload, len(r.Into))
}

func checkLength(payload []byte, want int) error {
	if len(payload) != want {
		return fmt.Errorf("%w: %d bytes came, expected %d", wire.ErrMalformed, len(payload), want)
	}
	return nil
}

// exchange is do for a payload of any length.
func (p *Peer) exchange(ctx context.Context, group int, s *scratch, r wire.Call, got func(*reader)) (payload []byte, err error) {
	defer scratches.Put(s)
	r.Head, r.HeadInto, r.Timeout = s.head, s.back[:0], p.Timeout
	c, err := p.link.Client(ctx)
	if err != nil {
		return nil, unreachable(err) // refused connections are no answers
	}
	reply, err := c.Do(ctx, r)
	if err != nil {
		return nil, failure(group, err)
	}
	return reply.Payload, s.take(reply, got)
}

// take calls got with the head of a reply.
func (s *scratch) take(reply wire.Reply, got func(*reader)) error {
	s.back = reply.Head
	in := &s.in
	*in = reader{p: reply.Head}
	if len(in.p) > 0 {
		switch b := in.u8(); {
		case b == replyBadBlock:
			return in.blockError()
		case b != replyResult || got == nil:
			return fmt.Errorf("%w: reply that begins with %d", wire.ErrMalformed, b)
		}
	}
	if got != nil {
		got(in)
	}
	return in.end()
}

// head begins a request of a writer.
func head(r *replica.Request) (*scratch, error) {
	if err := checkTo(&r.To); err != nil {
		return nil, err
	}
	s := scratches.Get().(*scratch)
	s.head = appendRequest(s.head[:0], r)
	return s, nil
}

// headTo begins another one.
func headTo(to *replica.To, numbers ...uint64) (*scratch, error) {
	if err := checkTo(to); err != nil {
		return nil, err
	}
	s := scratches.Get().(*scratch)
	s.head = appendNumbers(appendTo(s.head[:0], to), numbers...)
	return s, nil
}

// Open is that of replica.Peer.
func (p *Peer) Open(ctx context.Context, disk, incarnation string, w replica.Writer) error {
	s, err := headTo(&replica.To{Disk: disk, Incarnation: incarnation})
	if err != nil {
		return err
	}
	s.head = appendWriter(s.head, &w)
	return p.do(ctx, 0, s, wire.Call{Op: opOpen}, nil)
}

// Read is that of replica.Peer.
func (p *Peer) Read(ctx context.Context, r *replica.Request, b []byte) error {
	return p.pieces(ctx, r, opRead, b)
}

// Write is that of replica.Peer.
func (p *Peer) Write(ctx context.Context, r *replica.Request, b []byte) error {
	return p.pieces(ctx, r, opWrite, b)
}

// pieces reads or writes at most MaxData at a time, and at least once.
func (p *Peer) pieces(ctx context.Context, r *replica.Request, op wire.Op, b []byte) error {
	off := r.Off
	for {
		n := min(len(b), MaxData)
		s, err := head(r)
		if err != nil {
			return err
		}
		// The offset is the last of the head.
		s.head = appendNumbers(s.head[:len(s.head)-8], uint64(off))
		call := wire.Call{Op: op, Payload: b[:n]}
		if op == opRead {
			call = wire.Call{Op: op, Into: b[:n]}
		}
		if err := p.do(ctx, r.Group, s, call, nil); err != nil || n == len(b) {
			return err
		}
		off += int64(n)
		b = b[n:]
	}
}

// Zero is that of replica.Peer.
func (p *Peer) Zero(ctx context.Context, r *replica.Request, n int64) error {
	s, err := head(r)
	if err != nil {
		return err
	}
	s.head = appendNumbers(s.head, uint64(n))
	return p.do(ctx, r.Group, s, wire.Call{Op: opZero}, nil)
}

// Flush is that of replica.Peer.
func (p *Peer) Flush(ctx context.Context, r *replica.Request) error {
	s, err := head(r)
	if err != nil {
		return err
	}
	return p.do(ctx, r.Group, s, wire.Call{Op: opFlush}, nil)
}

// Again is that of replica.Peer.
func (p *Peer) Again(ctx context.Context, r *replica.Request) error {
	s, err := head(r)
	if err != nil {
		return err
	}
	return p.do(ctx, r.Group, s, wire.Call{Op: opAgain}, nil)
}

// Standing is that of replica.Peer.
func (p *Peer) Standing(ctx context.Context, r *replica.Request) (st replica.Standing, err error) {
	s, err := head(r)
	if err != nil {
		return st, err
	}
	err = p.do(ctx, r.Group, s, wire.Call{Op: opStanding}, func(in *reader) {
		st.Counter, st.Digest, st.Dirty, st.Unsettled = in.u64(), in.u64(), in.u8() != 0, in.u8() != 0
	})
	return st, err
}

// Clear is that of replica.Peer.
func (p *Peer) Clear(ctx context.Context, r *replica.Request, state disk.State) (cleared bool, err error) {
	s, err := head(r)
	if err != nil {
		return false, err
	}
	s.head = appendNumbers(s.head, state.Counter, state.Digest)
	err = p.do(ctx, r.Group, s, wire.Call{Op: opClear}, func(in *reader) { cleared = in.u8() != 0 })
	return cleared, err
}

// Fix is that of replica.Peer. What was made before an error is not counted.
func (p *Peer) Fix(ctx context.Context, r *replica.Request, fixes []disk.Fix) (made int, err error) {
	for {
		var payload []byte
		for len(fixes) > 0 && len(payload) <= MaxData-maxElement-disk.BlockSize {
			f := &fixes[0]
			if f.Kind == disk.Data && len(f.Data) != disk.BlockSize {
				return made, fmt.Errorf("a fix with %d bytes, expected %d: %w", len(f.Data), disk.BlockSize, block.ErrInvalid)
			}
			payload = appendFix(payload, f)
			fixes = fixes[1:]
		}
		s, err := head(r)
		if err != nil {
			return made, err
		}
		var n uint64
		err = p.do(ctx, r.Group, s, wire.Call{Op: opFix, Payload: payload}, func(in *reader) { n = in.u64() })
		if made += int(n); err != nil || len(fixes) == 0 {
			return made, err
		}
	}
}

// RawBlocks is that of replica.Peer.
func (p *Peer) RawBlocks(ctx context.Context, to replica.To, o disk.Object, version uint64, from uint32, b []byte) ([]disk.Entry, error) {
	if len(b)%disk.BlockSize != 0 || len(b) > replica.MaxRaw*disk.BlockSize {
		return nil, fmt.Errorf("room for %d bytes, expected blocks of %d, %d at most: %w", len(b), disk.BlockSize, replica.MaxRaw, block.ErrInvalid)
	}
	s, err := headTo(&to, o.Family, o.Index, version, uint64(from))
	if err != nil {
		return nil, err
	}
	list := make([]disk.Entry, len(b)/disk.BlockSize)
	err = p.do(ctx, to.Group, s, wire.Call{Op: opRaw, Into: b}, func(in *reader) {
		for i := range list {
			list[i] = disk.Entry{Version: version, Block: from + uint32(i), Kind: disk.Kind(in.u8()), Sum: in.u32()}
		}
	})
	return list, err
}

// Verify is that of replica.Peer.
func (p *Peer) Verify(ctx context.Context, r *replica.Request) (bad []uint32, err error) {
	s, err := head(r)
	if err != nil {
		return nil, err
	}
	bad, _, err = receiveList(ctx, p, r.Group, s, opVerify, (*reader).u32)
	return bad, err
}

// List is that of replica.Peer.
func (p *Peer) List(ctx context.Context, to replica.To, from uint64) (list []disk.Summary, more bool, err error) {
	s, err := headTo(&to, from)
	if err != nil {
		return nil, false, err
	}
	return receiveList(ctx, p, to.Group, s, opList, (*reader).summary)
}

// Dirty is that of replica.Peer.
func (p *Peer) Dirty(ctx context.Context, to replica.To, from uint64) (list []disk.DirtyObject, more bool, err error) {
	s, err := headTo(&to, from)
	if err != nil {
		return nil, false, err
	}
	return receiveList(ctx, p, to.Group, s, opDirty, (*reader).dirty)
}

// Entries is that of replica.Peer.
func (p *Peer) Entries(ctx context.Context, to replica.To, o disk.Object, from, n uint32) ([]disk.Entry, error) {
	s, err := headTo(&to, o.Family, o.Index, uint64(from), uint64(n))
	if err != nil {
		return nil, err
	}
	list, _, err := receiveList(ctx, p, to.Group, s, opEntries, (*reader).entry)
	return list, err
}

// maxList bounds the elements of a list that comes from a node.
const maxList = replica.MaxEntries + replica.MaxList

// receiveList gives s back.
func receiveList[T any](ctx context.Context, p *Peer, group int, s *scratch, op wire.Op, next func(*reader) T) (list []T, more bool, err error) {
	defer scratches.Put(s)
	c, err := p.link.Client(ctx)
	if err != nil {
		return nil, false, unreachable(err)
	}
	items := 0
	for i, err := range c.Stream(ctx, wire.Call{Op: op, Head: s.head, Timeout: p.Timeout}) {
		if err != nil {
			return nil, false, failure(group, err)
		}
		in := reader{p: i.Payload}
		for len(in.p) > 0 {
			list = append(list, next(&in))
		}
		if in.short || len(i.Head) != 1 || len(list) > maxList {
			return nil, false, fmt.Errorf("%w: list of %d elements, of %d at most", wire.ErrMalformed, len(list), maxList)
		}
		more = i.Head[0] != 0
		items++
	}
	if items == 0 {
		return nil, false, fmt.Errorf("%w: no list", wire.ErrMalformed)
	}
	return list, more, nil
}
