package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// nth is the node of a member of the group of block 0, or of none if it is 3.
func nth(i int) int { return (nodeOfBlock0 + i) % simNodes }

// members fails the test unless the group of block 0 has just the disks of those nodes.
func (s *sim) members(nodes ...int) {
	s.t.Helper()
	rec, _ := s.state.Group(groupOfBlock0)
	var want, got []string
	for _, id := range nodes {
		want = append(want, diskName(id))
	}
	for _, m := range slices.Concat(rec.Members, rec.Joining) {
		got = append(got, m.Disk)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		s.t.Errorf("the group is on %v, want %v", got, want)
	}
}

// A write that one disk of three has no room for is carried out by the others, and that
// one leaves the group. Before that it takes part in what needs no room.
func TestNoRoom(t *testing.T) {
	for i := range 3 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			scene(t, func(t *testing.T, s *sim) {
				v, err := s.attach(nth(3))
				must(t, err)
				must(t, v.WriteAt(t.Context(), content(1), 0, 0))
				s.fill(nth(i), 0)
				must(t, v.WriteAt(t.Context(), content(2), 0, 0))
				must(t, v.Zero(t.Context(), 0, disk.BlockSize, 0))
				s.members(nth(0), nth(1), nth(2))
				s.fill(nth(i), 0)
				began := time.Now()
				must(t, v.WriteAt(t.Context(), content(3), 0, 0))
				must(t, v.Flush(t.Context()))
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %v", took)
				}
				expect(t, v, 3)
				s.members(nth((i+1)%3), nth((i+2)%3))
				if v.some.Load() != 0 {
					t.Error("what has succeeded is in doubt")
				}
				s.fill(nth(i), plenty)
				s.add(groupOfBlock0, nth(i))
				s.joined(groupOfBlock0, simCopies)
				s.holds(v, 3)
			})
		})
	}
}

// When too few disks have room a write fails for want of it, at once, nobody is removed,
// and all have the same afterwards.
func TestNoRoomAnywhere(t *testing.T) {
	for full := 2; full <= simCopies; full++ {
		t.Run(fmt.Sprint(full), func(t *testing.T) {
			scene(t, func(t *testing.T, s *sim) {
				v, err := s.attach(nth(3))
				must(t, err)
				for i := range full {
					s.fill(nth(i), 0)
				}
				began := time.Now()
				if err := v.WriteAt(t.Context(), content(7), 0, 0); !errors.Is(err, block.ErrNoSpace) || errors.Is(err, ErrTooFew) {
					t.Errorf("%d disks are full: %v", full, err)
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %v to say so", took)
				}
				expect(t, v, 0)
				s.holds(v, 0)
				s.members(nth(0), nth(1), nth(2))
				for i := range full {
					s.fill(nth(i), plenty)
				}
				must(t, v.WriteAt(t.Context(), content(8), 0, 0))
				s.holds(v, 8)
			})
		})
	}
}

// A joining disk without room keeps nobody from writing: it leaves the group, unless
// writes need it.
func TestNoRoomToJoin(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		v, err := s.attach(nth(0))
		must(t, err)
		must(t, v.WriteAt(t.Context(), content(1), 0, 0))
		s.fill(nth(3), 0)
		s.add(groupOfBlock0, nth(3))
		time.Sleep(time.Second)
		s.members(nth(0), nth(1), nth(2)) // it could not pull

		must(t, v.Zero(t.Context(), 0, disk.BlockSize, 0))
		s.cut(nth(3), nth(0), true) // it cannot begin to
		s.process(nth(3)).member.c.Pace = func(ctx context.Context, _ Step) error { <-ctx.Done(); return ctx.Err() }
		s.add(groupOfBlock0, nth(3))
		s.heal()
		s.fill(nth(3), 0)
		must(t, v.WriteAt(t.Context(), content(2), 0, 0))
		s.members(nth(0), nth(1), nth(2))

		s.drop(groupOfBlock0, diskName(nth(1)))
		s.drop(groupOfBlock0, diskName(nth(2)))
		s.add(groupOfBlock0, nth(3))
		time.Sleep(time.Second)
		if err := v.WriteAt(t.Context(), content(3), 0, 0); !errors.Is(err, block.ErrNoSpace) || errors.Is(err, ErrTooFew) {
			t.Errorf("writing where the joining disk is needed: %v", err)
		}
		expect(t, v, 3) // as the member has it
		s.members(nth(0), nth(3))
		s.fill(nth(3), plenty)
		must(t, v.WriteAt(t.Context(), content(4), 0, 0))
		expect(t, v, 4)
	})
}

// outOfRoom is a disk that has failed as there was no room for its metadata.
type outOfRoom struct{ Disk }

func (outOfRoom) err() error { return fmt.Errorf("%w: %w", disk.ErrFailed, block.ErrNoSpace) }

func (d outOfRoom) Write(context.Context, disk.At, []byte, int64) error { return d.err() }
func (d outOfRoom) Flush(context.Context) error                         { return d.err() }

// A disk has failed as the file system of its metadata is full. That is a fault of the
// disk, also where it is asked in the same process: no error of the request, and no want of
// room.
func TestFailedForWantOfRoom(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		v, err := s.attach(nth(1))
		must(t, err)
		must(t, v.WriteAt(t.Context(), content(1), 0, 0))
		m := s.process(nth(1)).member
		m.c.Disk = outOfRoom{m.c.Disk}
		must(t, v.WriteAt(t.Context(), content(2), 0, 0))
		must(t, v.Flush(t.Context()))
		s.members(nth(0), nth(2))
		expect(t, v, 2)
		// The next one is needed.
		m = s.process(nth(0)).member
		m.c.Disk = outOfRoom{m.c.Disk}
		if err := v.WriteAt(t.Context(), content(3), 0, 0); !errors.Is(err, disk.ErrFailed) {
			t.Errorf("writing with one disk that works: %v", err)
		}
	})
}

// What a group does not have room for does not make it lose more than one of three disks.
func TestDecline(t *testing.T) {
	scene(t, func(t *testing.T, s *sim) {
		groups := &Groups{Store: s.store}
		s.process(nth(3)).member.c.Pace = func(ctx context.Context, _ Step) error { <-ctx.Done(); return ctx.Err() }
		s.cut(nth(3), nth(0), true)
		rec := s.add(groupOfBlock0, nth(3))
		must(t, groups.decline(t.Context(), groupOfBlock0, record.Member{Disk: "other"}, 2))
		must(t, groups.decline(t.Context(), groupOfBlock0, rec.Joining[0], 4))
		if got, _, err := groups.Get(t.Context(), groupOfBlock0); err != nil || len(got.Members)+len(got.Joining) != 4 {
			t.Errorf("a disk that is needed, or another one, was taken out: %v, %v", got, err)
		}
		must(t, groups.decline(t.Context(), groupOfBlock0, rec.Joining[0], 3))
		time.Sleep(100 * time.Millisecond)
		s.members(nth(0), nth(1), nth(2))
	})
}
