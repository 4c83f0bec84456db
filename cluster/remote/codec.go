package remote

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/replica"
	"github.com/strata-storage/strata/cluster/wire"
)

// Operations by number.
const (
	opOpen wire.Op = 1 + iota
	opRead
	opWrite
	opZero
	opFlush
	opStanding
	opVerify
	opFix
	opAgain
	opClear
	opList
	opDirty
	opEntries
	opRaw
	opMap
)

func appendNumbers(b []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

// appendTo encodes to, whose names have been checked.
func appendTo(b []byte, to *replica.To) []byte {
	b = append(append(b, byte(len(to.Disk))), to.Disk...)
	b = append(append(b, byte(len(to.Incarnation))), to.Incarnation...)
	b = binary.BigEndian.AppendUint32(b, uint32(to.Group))
	return appendNumbers(b, uint64(to.Epoch))
}

func appendWriter(b []byte, w *replica.Writer) []byte {
	return appendNumbers(b, w.Family, w.Version, uint64(w.Generation), w.Session)
}

func appendRequest(b []byte, r *replica.Request) []byte {
	b = appendWriter(appendTo(b, &r.To), &r.Writer)
	return appendNumbers(b, r.Index, r.Tree, uint64(r.Off))
}

// checkTo refuses what cannot be encoded.
func checkTo(to *replica.To) error {
	if len(to.Disk) > 255 || len(to.Incarnation) > 255 || to.Group < 0 || int64(to.Group) >= 1<<32 {
		return fmt.Errorf("%w: names of %d and %d bytes, group %d", wire.ErrTooLarge, len(to.Disk), len(to.Incarnation), to.Group)
	}
	return nil
}

// A reader decodes what the other side has sent. After the first thing that is missing
// everything is zero.
type reader struct {
	p     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if len(r.p) < n {
		r.p, r.short = nil, true
		return nil
	}
	p := r.p[:n]
	r.p = r.p[n:]
	return p
}

func (r *reader) u8() uint8 {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// end reports whether there was neither too little nor too much.
func (r *reader) end() error {
	if r.short || len(r.p) > 0 {
		return fmt.Errorf("%w: %d bytes too many, or some missing", wire.ErrMalformed, len(r.p))
	}
	return nil
}

func (r *reader) to(to *replica.To) {
	to.Disk = names.of(r.take(int(r.u8())))
	to.Incarnation = names.of(r.take(int(r.u8())))
	to.Group, to.Epoch = int(r.u32()), coord.Revision(r.u64())
}

func (r *reader) writer(w *replica.Writer) {
	w.Family, w.Version, w.Generation, w.Session = r.u64(), r.u64(), coord.Revision(r.u64()), r.u64()
}

func (r *reader) request(q *replica.Request) {
	r.to(&q.To)
	r.writer(&q.Writer)
	q.Index, q.Tree, q.Off = r.u64(), r.u64(), int64(r.u64())
}

// names are those of disks and incarnations, so that not each request makes them
// anew.
var names interned

// maxNames bounds what is kept: there are two for each disk of this node.
const maxNames = 4096

type interned struct {
	mu sync.RWMutex
	m  map[string]string
}

func (i *interned) of(p []byte) string {
	i.mu.RLock()
	s, ok := i.m[string(p)]
	i.mu.RUnlock()
	if ok {
		return s
	}
	s = string(p)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.m == nil || len(i.m) >= maxNames {
		i.m = map[string]string{}
	}
	i.m[s] = s
	return s
}

// The elements of lists.

func appendEntry(b []byte, e disk.Entry) []byte {
	b = appendNumbers(b, e.Version)
	b = binary.BigEndian.AppendUint32(b, e.Block)
	return binary.BigEndian.AppendUint32(append(b, byte(e.Kind)), e.Sum)
}

func (r *reader) entry() disk.Entry {
	return disk.Entry{Version: r.u64(), Block: r.u32(), Kind: disk.Kind(r.u8()), Sum: r.u32()}
}

func appendSummary(b []byte, s disk.Summary) []byte {
	return appendNumbers(b, s.Family, s.Index, s.Counter, s.Digest, s.Blocks)
}

func (r *reader) summary() (s disk.Summary) {
	s.Family, s.Index, s.Counter, s.Digest, s.Blocks = r.u64(), r.u64(), r.u64(), r.u64(), r.u64()
	return s
}

func appendDirty(b []byte, d disk.DirtyObject) []byte {
	return append(appendNumbers(b, d.Family, d.Index), bit(d.Unsettled))
}

func (r *reader) dirty() (d disk.DirtyObject) {
	d.Family, d.Index, d.Unsettled = r.u64(), r.u64(), r.u8() != 0
	return d
}

func appendBlock(b []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(b, n) }

func appendFix(b []byte, f *disk.Fix) []byte {
	b = append(appendEntry(b, f.Was), byte(f.Kind))
	if f.Kind == disk.Data {
		b = append(b, f.Data...)
	}
	return b
}

func (r *reader) fix() disk.Fix {
	f := disk.Fix{Was: r.entry(), Kind: disk.Kind(r.u8())}
	if f.Kind == disk.Data {
		f.Data = r.take(disk.BlockSize)
	}
	r.short = r.short || f.Kind > disk.Hole || f.Was.Kind > disk.Hole
	return f
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
