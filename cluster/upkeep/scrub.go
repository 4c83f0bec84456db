package upkeep

import (
	"context"
	"errors"
	"time"

	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
)

// saveCursor is how often it is noted how far a scrub is.
const saveCursor = 30 * time.Second

// A kind of scrub.
type scrubber struct {
	kind job.Kind
	// pass is that of a disk, period how long after one the next one begins.
	pass   func(*record.Health) *record.Pass
	period time.Duration
	run    func(ctx context.Context, s *scrubbing) error
}

// scrub is the goroutine that does the scrubs of a disk.
func (k *Keeper) scrub(ctx context.Context, d *Disk) {
	kinds := []*scrubber{
		{job.Digests, func(h *record.Health) *record.Pass { return &h.Digests }, k.o.Digests, k.scrubDigests},
		{job.Data, func(h *record.Health) *record.Pass { return &h.Data }, k.o.Data, k.scrubData},
	}
	for {
		v := k.c.State.View()
		wait := time.Duration(0)
		for _, s := range kinds {
			h := k.health(d.ID)
			left := k.due(s, s.pass(&h))
			if left > 0 {
				if wait == 0 || left < wait {
					wait = left
				}
				continue
			}
			if left == 0 && d.Failure() == nil {
				if err := k.scrubOnce(ctx, d, s); err != nil && ctx.Err() == nil {
					k.c.Log.Warn("a scrub has to wait", "disk", d.ID, "kind", s.kind, "error", err)
				}
				wait = look
			}
		}
		k.pause(ctx, settle)
		if k.next(ctx, v, wait) != nil {
			return
		}
	}
}

// due returns how long it takes until a scrub is to begin or to go on, -1 if that is
// never.
func (k *Keeper) due(s *scrubber, p *record.Pass) time.Duration {
	switch {
	case p.Begun.After(p.Ended) || p.Ordered.After(p.Begun):
		return 0
	case s.period < 0:
		return -1
	case p.Ended.IsZero():
		return max(0, time.Until(k.began.Add(k.o.First)))
	}
	return max(0, time.Until(p.Ended.Add(s.period)))
}

// scrubbing is a pass that is going on.
type scrubbing struct {
	k     *Keeper
	d     *Disk
	kind  *scrubber
	job   *job.Job
	pass  record.Pass
	saved time.Time
}

// scrubOnce does a scrub, or the rest of one.
func (k *Keeper) scrubOnce(ctx context.Context, d *Disk, kind *scrubber) error {
	s := &scrubbing{k: k, d: d, kind: kind}
	h := k.health(d.ID)
	s.pass = *kind.pass(&h)
	if !s.pass.Begun.After(s.pass.Ended) || s.pass.Ordered.After(s.pass.Begun) {
		s.pass = record.Pass{Ended: s.pass.Ended, Begun: time.Now().UTC().Round(0)}
	}
	if err := s.save(ctx); err != nil {
		return err
	}
	unit := "bytes"
	if kind.kind == job.Digests {
		unit = "groups"
	}
	s.job = k.c.Board.Begin(job.What{Kind: kind.kind, Disk: d.ID, Unit: unit}, d.throttle)
	defer s.job.End()
	err := kind.run(ctx, s)
	if err == nil {
		s.pass.Ended, s.pass.Cursor = time.Now().UTC().Round(0), 0
		k.c.Log.Info("a scrub has ended", "disk", d.ID, "kind", kind.kind, "objects", s.pass.Objects, "bytes", s.pass.Bytes, "bad", s.pass.Bad, "mended", s.pass.Mended)
	}
	return errors.Join(err, s.save(ctx))
}

// save notes how far it is.
func (s *scrubbing) save(ctx context.Context) error {
	s.saved = time.Now()
	return s.k.save(ctx, s.d, func(h *record.Health) {
		p := s.kind.pass(h)
		ordered := p.Ordered
		*p = s.pass
		p.Ordered = ordered
	})
}

// at notes a cursor, and saves it now and then.
func (s *scrubbing) at(ctx context.Context, cursor uint64) error {
	s.pass.Cursor = cursor
	if time.Since(s.saved) < saveCursor {
		return nil
	}
	return s.save(ctx)
}

// scrubData reads all data of a disk that it should have, from the cursor on.
func (k *Keeper) scrubData(ctx context.Context, s *scrubbing) error {
	total := s.d.Stats().Used
	s.job.Set(s.pass.Bytes, max(total, s.pass.Bytes))
	for more := true; more; {
		var list []disk.Summary
		more = false
		for x, err := range s.d.List(ctx, s.pass.Cursor, lastHash) {
			if err != nil {
				return err
			}
			if len(list) >= 64 && x.Hash() != list[len(list)-1].Hash() {
				more = true
				break
			}
			list = append(list, x)
		}
		for _, x := range list {
			if _, g, _, ok := k.groupOf(x.Object); ok && has(g, s.d.ID) {
				if err := k.verify(ctx, s.d, s.job, x, &s.pass, true, nil); err != nil {
					return err
				}
			}
			if x.Hash() == lastHash {
				return nil
			}
			if err := s.at(ctx, x.Hash()+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// verify reads all data of an object, and mends it.
func (k *Keeper) verify(ctx context.Context, d *Disk, j *job.Job, x disk.Summary, p *record.Pass, mend bool, report func(error)) error {
	next := uint16(0)
	p.Objects++
	err := j.Run(ctx, 1, 256, func(ctx context.Context, n int) (more bool, err error) {
		var bad []*disk.BlockError
		next, more, err = d.VerifyFrom(ctx, x.Object, next, n, func(e *disk.BlockError) bool {
			bad = append(bad, e)
			return true
		})
		for _, e := range bad {
			if errors.Is(e, disk.ErrUnfinished) {
				continue
			}
			d.unread(e)
			if !mend {
				p.Bad++
				report(e)
				continue
			}
			was, merr := k.mend(ctx, d, e)
			if was {
				p.Bad++
			}
			if was && merr == nil {
				p.Mended++
			}
			if report != nil && was {
				report(errors.Join(e, merr))
			}
		}
		return more, err
	})
	bytes := int64(x.Blocks) * disk.BlockSize
	p.Bytes += bytes
	j.Add(bytes, bytes)
	return err
}

// scrubDigests compares the groups of which the disk is the first member.
func (k *Keeper) scrubDigests(ctx context.Context, s *scrubbing) error {
	v := k.c.State.View()
	var numbers []int
	for number, g := range v.Groups.All() {
		if m := g.Record.Members[0]; m.Disk == s.d.ID && m.Incarnation == k.c.Incarnation {
			numbers = append(numbers, number)
		}
	}
	for i, number := range numbers {
		s.job.Set(int64(i), int64(len(numbers)))
		if uint64(number) < s.pass.Cursor {
			continue
		}
		c := comparison{k: k, d: s.d, job: s.job, group: number, mend: true, pass: &s.pass}
		err := c.run(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, replica.ErrEpoch) || errors.Is(err, replica.ErrNoMember) || errors.Is(err, replica.ErrUnreachable) || errors.Is(err, replica.ErrIncarnation):
			// It is not at rest. The next scrub compares it.
			k.c.Log.Debug("a group could not be compared", "group", number, "error", err)
		case err != nil:
			return err
		}
		if err := s.at(ctx, uint64(number)+1); err != nil {
			return err
		}
	}
	return nil
}
