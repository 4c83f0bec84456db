package remote

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/replica"
	"github.com/strata-storage/strata/cluster/wire"
)

// A server finds the disks of this node.
type server struct {
	find func(disk string) replica.Peer
}

// Operations are what a node does for others with its disks, which find returns by
// their IDs, or nil.
func Operations(find func(disk string) replica.Peer) map[wire.Op]wire.Operation {
	s := &server{find}
	return map[wire.Op]wire.Operation{
		opOpen:     {Handler: s.open},
		opRead:     {Handler: s.written(read), Try: s.attempted(readNow)},
		opWrite:    {Handler: s.written(write), Try: s.attempted(writeNow)},
		opZero:     {Handler: s.written(zero)},
		opFlush:    {Handler: s.written(flush)},
		opStanding: {Handler: s.written(standing)},
		opVerify:   {Handler: s.written(verify)},
		opFix:      {Handler: s.written(fix)},
		opAgain:    {Handler: s.written(again)},
		opClear:    {Handler: s.written(clearMark)},
		opList:     {Handler: s.list},
		opDirty:    {Handler: s.dirty},
		opEntries:  {Handler: s.entries},
		opRaw:      {Handler: s.raw},
		opMap:      {Handler: s.written(mapBlocks)},
	}
}

func (s *server) disk(to *replica.To) (replica.Peer, error) {
	if p := s.find(to.Disk); p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("there is no disk %q here: %w", to.Disk, replica.ErrIncarnation)
}

// A job is a request of a writer on its way through a handler.
type job struct {
	peer replica.Peer
	q    replica.Request
	in   reader
	r    *wire.Request
}

// jobs are used again, as nobody uses a request after it has ended.
var jobs = sync.Pool{New: func() any { return new(job) }}

// written returns the handler of requests of writers. f decodes what is special of
// the head and carries it out.
func (s *server) written(f func(ctx context.Context, j *job) error) wire.Handler {
	return func(ctx context.Context, r *wire.Request) (err error) {
		j := jobs.Get().(*job)
		defer func() {
			*j = job{}
			jobs.Put(j)
		}()
		j.r, j.in = r, reader{p: r.Head()}
		j.in.request(&j.q)
		if j.in.short {
			return j.in.end()
		}
		if j.peer, err = s.disk(&j.q.To); err != nil {
			return err
		}
		return answer(r, f(ctx, j))
	}
}

func read(ctx context.Context, j *job) error {
	if err := j.in.end(); err != nil {
		return err
	}
	p, err := j.r.Buffer(j.r.Room())
	if err != nil {
		return err
	}
	return j.peer.Read(ctx, &j.q, p)
}

func write(ctx context.Context, j *job) error {
	if err := j.in.end(); err != nil {
		return err
	}
	return j.peer.Write(ctx, &j.q, j.r.Payload())
}

func zero(ctx context.Context, j *job) error {
	n := int64(j.in.u64())
	if err := j.in.end(); err != nil {
		return err
	}
	return j.peer.Zero(ctx, &j.q, n)
}

func flush(ctx context.Context, j *job) error {
	if err := j.in.end(); err != nil {
		return err
	}
	return j.peer.Flush(ctx, &j.q)
}

func again(ctx context.Context, j *job) error {
	if err := j.in.end(); err != nil {
		return err
	}
	return j.peer.Again(ctx, &j.q)
}

func standing(ctx context.Context, j *job) error {
	if err := j.in.end(); err != nil {
		return err
	}
	s, err := j.peer.Standing(ctx, &j.q)
	if err != nil {
		return err
	}
	return j.r.SetHead(append(appendNumbers([]byte{replyResult}, s.Counter, s.Digest), bit(s.Dirty), bit(s.Unsettled)))
}

func clearMark(ctx context.Context, j *job) error {
	state := disk.State{Counter: j.in.u64(), Digest: j.in.u64()}
	if err := j.in.end(); err != nil {
		return err
	}
	cleared, err := j.peer.Clear(ctx, &j.q, state)
	if err != nil {
		return err
	}
	return j.r.SetHead([]byte{replyResult, bit(cleared)})
}

func fix(ctx context.Context, j *job) error {
	if err := j.in.end(); err != nil {
		return err
	}
	var fixes []disk.Fix
	in := reader{p: j.r.Payload()}
	for len(in.p) > 0 {
		fixes = append(fixes, in.fix())
	}
	if err := in.end(); err != nil {
		return err
	}
	made, err := j.peer.Fix(ctx, &j.q, fixes)
	if err != nil {
		return err
	}
	return j.r.SetHead(appendNumbers([]byte{replyResult}, uint64(made)))
}

func verify(ctx context.Context, j *job) error {
	if err := j.in.end(); err != nil {
		return err
	}
	bad, err := j.peer.Verify(ctx, &j.q)
	if err != nil {
		return err
	}
	return sendList(j.r, bad, false, appendBlock)
}

func (s *server) open(ctx context.Context, r *wire.Request) error {
	in := reader{p: r.Head()}
	var to replica.To
	var w replica.Writer
	in.to(&to)
	in.writer(&w)
	if err := in.end(); err != nil {
		return err
	}
	p, err := s.disk(&to)
	if err != nil {
		return err
	}
	return answer(r, p.Open(ctx, to.Disk, to.Incarnation, w))
}

// asked decodes a request that is not one of a writer, with n numbers behind it.
func (s *server) asked(r *wire.Request, numbers ...*uint64) (p replica.Peer, to replica.To, err error) {
	in := reader{p: r.Head()}
	in.to(&to)
	for _, n := range numbers {
		*n = in.u64()
	}
	if err := in.end(); err != nil {
		return nil, to, err
	}
	p, err = s.disk(&to)
	return p, to, err
}

func (s *server) list(ctx context.Context, r *wire.Request) error {
	var from uint64
	p, to, err := s.asked(r, &from)
	if err != nil {
		return err
	}
	list, more, err := p.List(ctx, to, from)
	if err != nil {
		return answer(r, err)
	}
	return sendList(r, list, more, appendSummary)
}

func (s *server) dirty(ctx context.Context, r *wire.Request) error {
	var from uint64
	p, to, err := s.asked(r, &from)
	if err != nil {
		return err
	}
	list, more, err := p.Dirty(ctx, to, from)
	if err != nil {
		return answer(r, err)
	}
	return sendList(r, list, more, appendDirty)
}

func (s *server) entries(ctx context.Context, r *wire.Request) error {
	var o disk.Object
	var from, n uint64
	p, to, err := s.asked(r, &o.Family, &o.Index, &from, &n)
	if err != nil {
		return err
	}
	if from >= 1<<32 || n >= 1<<32 {
		return fmt.Errorf("blocks from %d on, %d of them: %w", from, n, block.ErrInvalid)
	}
	list, err := p.Entries(ctx, to, o, uint32(from), uint32(n))
	if err != nil {
		return answer(r, err)
	}
	return sendList(r, list, false, appendEntry)
}

func (s *server) raw(ctx context.Context, r *wire.Request) error {
	var o disk.Object
	var version, from uint64
	p, to, err := s.asked(r, &o.Family, &o.Index, &version, &from)
	if err != nil {
		return err
	}
	if from >= 1<<32 {
		return fmt.Errorf("block %d: %w", from, block.ErrInvalid)
	}
	data, err := r.Buffer(r.Room())
	if err != nil {
		return err
	}
	list, err := p.RawBlocks(ctx, to, o, version, uint32(from), data)
	if err != nil {
		return answer(r, err)
	}
	// Their versions and numbers are known.
	head := append(make([]byte, 0, 1+5*len(list)), replyResult)
	for _, e := range list {
		head = binary.BigEndian.AppendUint32(append(head, byte(e.Kind)), e.Sum)
	}
	return r.SetHead(head)
}

// maxElement is more than the longest element of a list takes.
const maxElement = 64

// sendList sends a list in as few items as possible, at least one.
func sendList[T any](r *wire.Request, list []T, more bool, add func([]byte, T) []byte) error {
	size := min(r.MaxItem()-1, len(list)*maxElement)
	if size < 0 || len(list) > 0 && size < maxElement {
		return fmt.Errorf("%w: items of %d bytes, no stream", wire.ErrMalformed, r.MaxItem())
	}
	head := []byte{bit(more)}
	p := make([]byte, 0, size)
	for _, e := range list {
		if len(p) > size-maxElement {
			if err := r.Send(head, p); err != nil {
				return err
			}
			p = p[:0]
		}
		p = add(p, e)
	}
	return r.Send(head, p)
}
