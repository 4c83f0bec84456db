package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/identity"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/remote"
	"github.com/strata-storage/strata/cluster/wire"
)

// Operations on volumes that another node has attached. Their heads are family and
// line, offset and length, each of 8 bytes, flags of 4, and the session of who asks; that
// of opSnapshot ends with the name, that of opMap with a version of 8 bytes.
const (
	// opOpen opens a volume like a user of the node that is asked, who ends with opLeave or
	// the session.
	opOpen wire.Op = 256 + iota
	opRead
	opWrite
	opZero
	opTrim
	opFlush
	opSnapshot
	opMap
	opGrow
	// opAdopt is opOpen, and has the node that is asked attach the volume, if need be.
	opAdopt
	opLeave
)

const farHead = 36 + sessionLen

// errNotHere: the node has not attached the volume, or has just given it up for whoever
// has asked.
var errNotHere = errors.New("the volume is not attached here")

// farErrors are the errors that cross the wire with a meaning of their own.
func farErrors() []wire.ErrorCode {
	const first = wire.CodeOwn + 128
	return append(remote.Errors(),
		wire.ErrorCode{Code: first, Err: errNotHere},
		wire.ErrorCode{Code: first + 1, Err: record.ErrExists},
		wire.ErrorCode{Code: first + 2, Err: record.ErrInvalid},
		wire.ErrorCode{Code: first + 3, Err: record.ErrNotFound},
		wire.ErrorCode{Code: first + 64, Err: identity.ErrExpelled})
}

// far is a volume that another node has attached, which does what is asked. All its
// requests go through one session: those of one that ended are dead before the next one
// is used.
type far struct {
	client *wire.Client
	line   record.Line
	info   atomic.Pointer[block.Info]
	broken atomic.Pointer[error]
}

var _ served = (*far)(nil)

// openFar opens a volume at the node that has attached it, if that still has it and has
// somebody who uses it.
func (n *Node) openFar(ctx context.Context, node string, l record.Line, info block.Info) (*far, error) {
	f, err := n.reach(ctx, node, l, info)
	if err != nil {
		return nil, err
	}
	return f, f.do(ctx, wire.Call{Op: opOpen}, 0, 0, 0)
}

// reach returns a volume that is not open yet.
func (n *Node) reach(ctx context.Context, node string, l record.Line, info block.Info) (*far, error) {
	c, err := n.other(node).link.Client(ctx)
	if err != nil {
		return nil, err
	}
	f := &far{client: c, line: l}
	f.info.Store(&info)
	return f, nil
}

// do carries out a request.
func (f *far) do(ctx context.Context, call wire.Call, off, n int64, flags block.Flags, more ...byte) error {
	_, err := f.ask(ctx, call, off, n, flags, more...)
	return err
}

// ask carries out a request and returns the payload of the reply. One whose outcome is not
// known ends the session.
func (f *far) ask(ctx context.Context, call wire.Call, off, n int64, flags block.Flags, more ...byte) ([]byte, error) {
	// Nothing may be under way there when this returns.
	reply, err := f.client.Do(context.WithoutCancel(ctx), f.call(ctx, call, off, n, flags, more...))
	var answer *wire.RemoteError
	switch {
	case err == nil:
	case !errors.As(err, &answer) || answer.Code == wire.CodeTimedOut || answer.Code == wire.CodeCanceled:
		f.fail(err)
		_ = f.client.Close()
	case errors.Is(err, errNotHere) || errors.Is(err, wire.ErrGoingAway) || answer.Code == wire.CodeShutdown:
		f.fail(err)
	}
	return reply.Payload, err
}

// call gives a request its head.
func (f *far) call(ctx context.Context, call wire.Call, off, n int64, flags block.Flags, more ...byte) wire.Call {
	call.Head = binary.BigEndian.AppendUint64(make([]byte, 0, farHead+len(more)), f.line.Family)
	for _, x := range []uint64{f.line.Line, uint64(off), uint64(n)} {
		call.Head = binary.BigEndian.AppendUint64(call.Head, x)
	}
	call.Head = append(appendSession(binary.BigEndian.AppendUint32(call.Head, uint32(flags)), ctx), more...)
	return call
}

func (f *far) fail(err error) { f.broken.CompareAndSwap(nil, &err) }

// Err returns nil, or why the other node is of no use any more.
func (f *far) Err() error {
	if err := f.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// Info is that of block.Device.
func (f *far) Info() block.Info { return *f.info.Load() }

// pieces calls do for parts that fit into a request.
func pieces(off, n int64, do func(off, from, n int64) error) error {
	for from := int64(0); ; {
		k := min(n-from, remote.MaxData)
		if err := do(off+from, from, k); err != nil {
			return err
		}
		if from += k; from >= n {
			return nil
		}
	}
}

// ReadAt is that of block.Device.
func (f *far) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := f.info.Load().CheckRead(off, len(p)); err != nil {
		return err
	}
	return pieces(off, int64(len(p)), func(off, from, n int64) error {
		return f.do(ctx, wire.Call{Op: opRead, Into: p[from : from+n]}, off, n, flags&^block.NoWait)
	})
}

// WriteAt is that of block.Device.
func (f *far) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := f.info.Load().CheckWrite(off, len(p)); err != nil {
		return err
	}
	return pieces(off, int64(len(p)), func(off, from, n int64) error {
		return f.do(ctx, wire.Call{Op: opWrite, Payload: p[from : from+n]}, off, n, flags&^block.NoWait)
	})
}

// Zero is that of block.Device.
func (f *far) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := f.info.Load().CheckChange(off, n); err != nil {
		return err
	}
	return f.do(ctx, wire.Call{Op: opZero}, off, n, flags&^block.NoWait)
}

// Trim is that of block.Device.
func (f *far) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := f.info.Load().CheckChange(off, n); err != nil {
		return err
	}
	return f.do(ctx, wire.Call{Op: opTrim}, off, n, flags&^block.NoWait)
}

// Flush is that of block.Device.
func (f *far) Flush(ctx context.Context) error {
	return f.do(ctx, wire.Call{Op: opFlush}, 0, 0, 0)
}

// Extents is that of block.Device.
func (f *far) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	if err := f.info.Load().CheckExtents(mc, off, n); err != nil {
		return block.FailExtents(err)
	}
	return block.MergeExtents(f.Map(ctx, 0, off, n))
}

// firstMap and maxMap are how much is asked about at first, and at most.
const (
	firstMap = 4 << 20
	maxMap   = 1 << 30
)

// Map is that of replica.Volume.
func (f *far) Map(ctx context.Context, since uint64, off, n int64) iter.Seq2[block.Extent, error] {
	if err := f.info.Load().CheckRange(off, n); err != nil {
		return block.FailExtents(err)
	}
	return func(yield func(block.Extent, error) bool) {
		for size := int64(firstMap); n > 0; size = min(2*size, maxMap) {
			call := wire.Call{Op: opMap, Into: make([]byte, remote.MaxExtents)}
			p, err := f.ask(ctx, call, off, min(n, size), 0, binary.BigEndian.AppendUint64(nil, since)...)
			var list []block.Extent
			if err == nil {
				list, err = remote.ParseExtents(p, off, min(n, size))
			}
			if err != nil {
				yield(block.Extent{}, err)
				return
			}
			for _, e := range list {
				if !yield(e, nil) {
					return
				}
				off, n = e.End(), n-e.Len
			}
		}
	}
}

// sendMap answers opMap.
func sendMap(ctx context.Context, r *wire.Request, v mapper, since uint64, off, n int64) error {
	p, err := r.Buffer(min(r.Room(), remote.MaxExtents))
	if err != nil {
		return err
	}
	p = p[:0:len(p)]
	for e, err := range v.Map(ctx, since, off, min(n, maxMap)) {
		if err != nil {
			return err
		}
		if cap(p)-len(p) < binary.MaxVarintLen64 {
			break
		}
		p = remote.AppendExtents(p, []block.Extent{e})
	}
	r.Shorten(len(p))
	return nil
}

// snapshot lets the other node make a snapshot.
func (f *far) snapshot(ctx context.Context, name string) error {
	if err := record.CheckName(name); err != nil {
		return err
	}
	return f.do(ctx, wire.Call{Op: opSnapshot}, 0, 0, 0, []byte(name)...)
}

// Close is that of block.Device. The session is that of all that goes to the node.
func (f *far) Close() error {
	if f.Err() == nil {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
		defer cancel()
		_, _ = f.client.Do(ctx, f.call(ctx, wire.Call{Op: opLeave}, 0, 0, 0))
	}
	f.fail(block.ErrClosed)
	return nil
}

// farOperations are what this node does for others with the volumes it has attached.
func (n *Node) farOperations(ops map[wire.Op]wire.Operation) map[wire.Op]wire.Operation {
	for op := opOpen; op <= opLeave; op++ {
		ops[op] = wire.Operation{Handler: n.serveFar}
	}
	return ops
}

// serveFar carries out a request of another node.
func (n *Node) serveFar(ctx context.Context, r *wire.Request) error {
	head := r.Head()
	expected := farHead
	switch r.Op() {
	case opSnapshot:
		expected = max(farHead, len(head))
	case opMap:
		expected += 8
	}
	if len(head) != expected {
		return fmt.Errorf("a head of %d bytes, expected %d: %w", len(head), expected, wire.ErrMalformed)
	}
	l := record.Line{Family: binary.BigEndian.Uint64(head), Line: binary.BigEndian.Uint64(head[8:])}
	switch r.Op() {
	case opLeave:
		n.dropWard(ward{r.Session(), l, false})
		n.dropWard(ward{r.Session(), l, true})
		return nil
	case opOpen, opAdopt:
		// What an earlier session of that node has sent must not be carried out later.
		mine := r.Session()
		who := mine.Peer()
		err := n.wire.End(ctx, func(s *wire.Session) bool {
			p := s.Peer()
			return p.Node == who.Node && s.ID() != mine.ID()
		})
		if err != nil {
			return err
		}
	}
	if r.Op() == opAdopt {
		return n.takeWard(ctx, r.Session(), l)
	}
	err := n.serveLent(ctx, r, l)
	if errors.Is(err, errNotHere) {
		n.dropWard(ward{r.Session(), l, true})
	}
	return err
}

// serveLent carries out a request on a volume that is attached here, or was opened for
// who has sent it.
func (n *Node) serveLent(ctx context.Context, r *wire.Request, l record.Line) error {
	h, err := n.lend(ctx, l)
	if err != nil {
		return err
	}
	defer h.leave()
	a := h.active.Load()
	if a == nil || a.Err() != nil || a.own == nil && !n.isWard(ward{r.Session(), l, false}) {
		return n.notHere(ctx, l)
	}
	if r.Op() == opOpen {
		n.welcome(r.Session(), l, h)
		return nil
	}
	err = h.serve(ctx, a, r)
	if err != nil && a.Err() != nil {
		// Whoever asks finds out who attaches the volume next, as users of this node do.
		return fmt.Errorf("%w any more: %v", errNotHere, err)
	}
	return err
}

// serve carries out a request of another node on a volume that this node has attached,
// or has opened for that one.
func (h *hold) serve(ctx context.Context, v *active, r *wire.Request) error {
	off, length, flags := farArgs(r.Head())
	switch r.Op() {
	case opWrite, opZero, opTrim:
		s := sessionOf(r.Head()[farHead-sessionLen:])
		if err := h.fence.enter(ctx, s); err != nil {
			return err
		}
		defer h.fence.leave(s)
		ctx = s.in(ctx) // it may go on to another node
	}
	switch r.Op() {
	case opRead:
		p, err := r.Buffer(r.Room())
		if err != nil {
			return err
		}
		return v.ReadAt(ctx, p, off, flags)
	case opWrite:
		return v.WriteAt(ctx, r.Payload(), off, flags)
	case opZero:
		return v.Zero(ctx, off, length, flags)
	case opTrim:
		return v.Trim(ctx, off, length, flags)
	case opFlush:
		return v.Flush(ctx)
	case opMap:
		return sendMap(ctx, r, v, binary.BigEndian.Uint64(r.Head()[farHead:]), off, length)
	case opGrow:
		return h.serveGrow(ctx, coord.Revision(length))
	case opSnapshot:
		name := string(r.Head()[farHead:])
		if f, ok := v.served.(*far); ok {
			return f.snapshot(ctx, name)
		}
		return h.snapshot(ctx, v.own, name, "")
	}
	return nil
}

// farArgs are the arguments of a request in its head, which is long enough.
func farArgs(head []byte) (off, length int64, flags block.Flags) {
	return int64(binary.BigEndian.Uint64(head[16:])), int64(binary.BigEndian.Uint64(head[24:])), block.Flags(binary.BigEndian.Uint32(head[32:]))
}

// lend returns the hold of a volume that this node has attached and somebody uses, with
// one user more. One that nobody has open is given up: the node that asks can attach it.
func (n *Node) lend(ctx context.Context, l record.Line) (*hold, error) {
	n.mu.Lock()
	h := n.holds[l]
	if h != nil && h.alone {
		n.mu.Unlock()
		return nil, errNotHere // for a moment
	}
	if h != nil && h.own > 0 {
		h.users++
		n.mu.Unlock()
		return h, nil
	}
	n.mu.Unlock()
	if err := n.release(ctx, l); err != nil && !errors.Is(err, record.ErrInUse) {
		return nil, err
	}
	return nil, n.notHere(ctx, l)
}

// notHere is errNotHere, and sees to it that the records do not say otherwise.
func (n *Node) notHere(ctx context.Context, l record.Line) error {
	if who, _ := n.state.View().Attachment(l); who.Node == n.is.Node {
		if err := n.giveUpStray(ctx, l); err != nil {
			return err
		}
	}
	return errNotHere
}
