package snapshot

import (
	"context"
	"sync/atomic"

	"github.com/strata-storage/strata/internal/rangelock"
)

// homecoming is the position of the background work of Staged.
type homecoming struct {
	// pending: something may have left the origin device since the pass over
	// all chunks began.
	pending atomic.Bool
	// cursor is the next chunk to look at; one step runs at a time.
	cursor int64
}

func (h *homecoming) wake() {
	if !h.pending.Load() {
		h.pending.Store(true)
	}
}

const (
	// homeBytes bounds what comes home in one step, homeRuns in how many
	// pieces, homeLooks how far a step looks for them.
	homeBytes = 1 << 20
	homeRuns  = 128
	homeLooks = 4096
)

// A stretch is a range of chunks, within one extent, that are held alone.
type stretch struct {
	c, n int64
	held *rangelock.Range
}

// staged reports whether chunks come home in the background.
func (s *Set) staged() bool {
	return s.o.Policy != Redirect && s.caps.Home && s.caps.Redirect && !s.o.ReadOnly && s.merging.Load() == nil
}

// homePending reports whether chunks may have to come home. Who asks does a step.
func (s *Set) homePending() bool {
	return s.staged() && (s.home.pending.Load() || s.home.cursor != 0)
}

// homeStep brings a batch of chunks home, in the order of the chunks.
func (s *Set) homeStep(ctx context.Context) (more bool, err error) {
	h := &s.home
	if !s.homePending() {
		return false, nil
	}
	if h.cursor == 0 {
		h.pending.Store(false)
	}
	var batch []stretch
	defer func() {
		for _, x := range batch {
			x.held.Unlock()
		}
	}()
	c, left := h.cursor, max(int64(homeBytes)>>s.shift, 1)
	for looks := 0; looks < homeLooks && len(batch) < homeRuns && left > 0 && c < s.chunks; looks++ {
		seg, err := s.store.Map(ctx, Origin, c, s.chunks-c, 0)
		if err != nil {
			return true, err
		}
		if seg.Where == OnOrigin {
			c += seg.N
			continue
		}
		n := min(s.within(c, c+seg.N), left)
		held, err := s.lockNext(ctx, batch, c, c+n)
		if err != nil {
			return true, err
		}
		if held == nil {
			break
		}
		batch = append(batch, stretch{c, n, held})
		c, left = c+n, left-n
	}
	err = s.bringHome(ctx, Origin, batch)
	for i := 0; isFull(err) && i < len(batch); i++ {
		// What needs no copy makes room for the rest.
		if e := s.bringHome(ctx, Origin, batch[i:i+1]); e != nil && !isFull(e) {
			err = e
		}
	}
	if err != nil && !isFull(err) {
		h.wake()
		return true, err
	}
	h.cursor = c
	if c >= s.chunks {
		h.cursor = 0
	}
	return h.cursor != 0 || h.pending.Load(), nil
}

// bringHome makes the origin device the place of what v has in stretches. It
// needs one barrier on each device, and the last change stays to be committed.
func (s *Set) bringHome(ctx context.Context, v ID, batch []stretch) error {
	if len(batch) == 0 {
		return nil
	}
	var pieces []piece
	for _, x := range batch {
		for c, end := x.c, x.c+x.n; c < end; {
			seg, err := s.store.Map(ctx, v, c, end-c, 0)
			if err != nil {
				return err
			}
			pieces = append(pieces, piece{seg, c})
			c += seg.N
			if seg.Where == OnOrigin {
				continue
			}
			if err := s.detach(ctx, c-seg.N, seg.N); err != nil {
				return err
			}
		}
	}
	for _, p := range pieces {
		if err := s.sendHome(ctx, p); err != nil {
			return err
		}
	}
	if err := s.toOrigin.Wait(ctx); err != nil {
		return err
	}
	for _, p := range pieces {
		if p.Where == OnOrigin && v == Origin {
			continue
		}
		if err := s.store.Home(ctx, v, p.c, p.N); err != nil {
			return err
		}
		s.shard(p.c).leave(s.toStore.Dirty())
		s.counts.homed.Add(p.N)
	}
	return nil
}

// A piece is a run of chunks from c on.
type piece struct {
	Segment
	c int64
}

// sendHome writes the content of chunks to the origin device, on which no
// snapshot lies any more. The first of a batch waits for the commit that all of
// them need.
func (s *Set) sendHome(ctx context.Context, p piece) error {
	if p.Where == OnOrigin {
		return nil
	}
	if err := s.overwrite(ctx, p.c, p.N); err != nil {
		return err
	}
	off := p.c << s.shift
	size := min(p.N<<s.shift, s.size-off)
	defer s.toOrigin.Dirty()
	if p.Where == Hole {
		return s.origin.Zero(ctx, off, size, 0)
	}
	buffer, free := s.buffer(p.N)
	defer free()
	if err := readDevice(ctx, s.dev, buffer[:size], p.Off, 0); err != nil {
		return err
	}
	return writeDevice(ctx, s.origin, buffer[:size], off, 0)
}
