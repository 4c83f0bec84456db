package layer

import (
	"context"

	"github.com/strata-storage/strata/block"
)

// A spread is a group of devices each byte of which lies on exactly one: all
// of concat and stripe but where that is.
type spread struct {
	group
	layout
}

// A layout tells where the bytes are.
type layout interface {
	// locate returns the number of the device that holds the byte at off,
	// its offset there, and how many bytes from there on lie together.
	locate(off int64) (i int, at, room int64)
	// ranges appends the one range of each device that the n bytes at off,
	// at least one, are made of.
	ranges(parts []part, off, n int64) []part
}

func (s *spread) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := s.info.CheckRead(off, len(p)); err != nil {
		return s.refuse(err)
	}
	i, at, room := s.locate(off)
	if int64(len(p)) > room {
		return s.transfer(ctx, OpRead, p, off, flags)
	}
	if err := s.devs[i].ReadAt(ctx, p, at, flags); err != nil {
		return s.memberError(i, err)
	}
	return nil
}

func (s *spread) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := s.info.CheckWrite(off, len(p)); err != nil {
		return s.refuse(err)
	}
	i, at, room := s.locate(off)
	if int64(len(p)) > room {
		return s.transfer(ctx, OpWrite, p, off, flags)
	}
	if err := s.devs[i].WriteAt(ctx, p, at, flags); err != nil {
		return s.memberError(i, err)
	}
	return nil
}

// transfer reads or writes bytes that lie on several devices.
func (s *spread) transfer(ctx context.Context, op Op, p []byte, off int64, flags block.Flags) error {
	if err := s.gate.Enter(); err != nil {
		return err
	}
	defer s.gate.Leave()
	r := newScatter(ctx, op, p, flags)
	defer r.free()
	for at := int64(0); at < int64(len(p)); {
		i, o, room := s.locate(off + at)
		n := min(room, int64(len(p))-at)
		r.parts = append(r.parts, part{dev: s.devs[i], member: i, off: o, n: n, at: at})
		at += n
	}
	i, err := r.run()
	return s.memberError(i, err)
}

func (s *spread) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := s.info.CheckChange(off, n); err != nil {
		return s.refuse(err)
	}
	i, at, room := s.locate(off)
	if n > room {
		return s.change(ctx, OpZero, off, n, flags)
	}
	return s.memberError(i, s.devs[i].Zero(ctx, at, n, flags))
}

func (s *spread) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := s.info.CheckChange(off, n); err != nil {
		return s.refuse(err)
	}
	i, at, room := s.locate(off)
	if n > room {
		return s.change(ctx, OpTrim, off, n, flags)
	}
	return s.memberError(i, s.devs[i].Trim(ctx, at, n, flags))
}

// change zeroes or trims a range that lies on several devices.
func (s *spread) change(ctx context.Context, op Op, off, n int64, flags block.Flags) error {
	if err := s.gate.Enter(); err != nil {
		return err
	}
	defer s.gate.Leave()
	r := newScatter(ctx, op, nil, flags)
	defer r.free()
	r.parts = s.ranges(r.parts, off, n)
	i, err := r.run()
	return s.memberError(i, err)
}
