package remote

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/replica"
	"github.com/strata-storage/strata/cluster/wire"
)

// MaxExtents is how many bytes of encoded extents are enough for one answer.
const MaxExtents = 32 << 10

const (
	statusBits = 3 // block.Hole, block.Zero and replica.Changed
	statusMask = 1<<statusBits - 1
)

// AppendExtents encodes the first extents of a list, as many as there is room for
// behind what is in b: a varint of length << 3 | status for each. They follow each
// other.
func AppendExtents(b []byte, list []block.Extent) []byte {
	for _, e := range list {
		if cap(b)-len(b) < binary.MaxVarintLen64 {
			break
		}
		b = binary.AppendUvarint(b, uint64(e.Len)<<statusBits|e.Status&statusMask)
	}
	return b
}

// ParseExtents decodes what AppendExtents has made of the extents of a range, or of the
// first ones.
func ParseExtents(p []byte, off, n int64) (list []block.Extent, err error) {
	for len(p) > 0 {
		v, k := binary.Uvarint(p)
		e := block.Extent{Off: off, Len: int64(v >> statusBits), Status: v & statusMask}
		if k <= 0 || e.Len == 0 || e.Len > n {
			return nil, fmt.Errorf("%w: an extent of %d bytes at %d, where %d are left", wire.ErrMalformed, e.Len, off, n)
		}
		p, off, n = p[k:], e.End(), n-e.Len
		list = append(list, e)
	}
	if len(list) == 0 && n > 0 {
		return nil, fmt.Errorf("%w: no extents of %d bytes", wire.ErrMalformed, n)
	}
	return list, nil
}

// Map is that of replica.Peer.
func (p *Peer) Map(ctx context.Context, r *replica.Request, n int64, since uint64) ([]block.Extent, error) {
	s, err := head(r)
	if err != nil {
		return nil, err
	}
	s.head = appendNumbers(s.head, uint64(n), since)
	payload, err := p.exchange(ctx, r.Group, s, wire.Call{Op: opMap, Into: make([]byte, MaxExtents)}, nil)
	if err != nil {
		return nil, err
	}
	return ParseExtents(payload, r.Off, n)
}

func mapBlocks(ctx context.Context, j *job) error {
	n, since := int64(j.in.u64()), j.in.u64()
	if err := j.in.end(); err != nil {
		return err
	}
	b, err := j.r.Buffer(min(j.r.Room(), MaxExtents))
	if err != nil {
		return err
	}
	list, err := j.peer.Map(ctx, &j.q, n, since)
	if err != nil {
		return err
	}
	j.r.Shorten(len(AppendExtents(b[:0], list)))
	return nil
}
