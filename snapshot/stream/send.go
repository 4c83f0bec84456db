package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// Send writes what differs between two snapshots: what has to be written to a
// copy of from to make it one of to. Neither can be deleted meanwhile.
func Send(ctx context.Context, w io.Writer, s *snapshot.Set, from, to string) (err error) {
	a, err := s.Open(ctx, from, snapshot.OpenOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	b, err := s.Open(ctx, to, snapshot.OpenOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return Write(ctx, w, Header{Size: b.Info().Size, From: from, To: to}, b, s.Diff(ctx, from, to))
}

// Write writes a difference: what a device holds where changes has extents with the
// status snapshot.Changed. h is its header, but for the content.
func Write(ctx context.Context, w io.Writer, h Header, dev block.Device, changes iter.Seq2[block.Extent, error]) error {
	x, err := newWriter(w)
	if err != nil {
		return err
	}
	h.Content = Difference
	err = x.putJSON(typeHeader, h)
	if err == nil {
		err = x.copy(ctx, dev, changes)
	}
	return x.end(err)
}

// Dump writes all that an origin and its snapshots hold. Nobody may write
// meanwhile.
func Dump(ctx context.Context, w io.Writer, s *snapshot.Set) error {
	x, err := newWriter(w)
	if err != nil {
		return err
	}
	err = x.putJSON(typeHeader, Header{Content: Everything, Size: s.Size()})
	last, whole := "", true
	for _, snap := range s.List() {
		if err == nil {
			err = x.dump(ctx, s, last, snap, whole)
		}
		last, whole = snap.Name, false
	}
	if err == nil {
		err = x.copy(ctx, s.Origin(), changes(ctx, s, last, "", whole))
	}
	return x.end(err)
}

// dump writes a snapshot as what differs from the one before it.
func (x *writer) dump(ctx context.Context, s *snapshot.Set, last string, snap snapshot.Snapshot, whole bool) (err error) {
	dev, err := s.Open(ctx, snap.Name, snapshot.OpenOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	if err := x.copy(ctx, dev, changes(ctx, s, last, snap.Name, whole)); err != nil {
		return fmt.Errorf("snapshot %q: %w", snap.Name, err)
	}
	return x.putJSON(typeSnapshot, Mark{Name: snap.Name, Created: snap.Created, Priority: snap.Priority})
}

// changes is Diff, but that all has changed if there is nothing before.
func changes(ctx context.Context, s *snapshot.Set, a, b string, whole bool) iter.Seq2[block.Extent, error] {
	if whole {
		return block.OneExtent(0, s.Size(), snapshot.Changed)
	}
	return s.Diff(ctx, a, b)
}
