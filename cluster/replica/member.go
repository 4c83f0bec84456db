package replica

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// A Disk is what a Member needs of a *disk.Disk; see there.
type Disk interface {
	Read(ctx context.Context, at disk.At, p []byte, off int64) error
	Map(ctx context.Context, at disk.At, since uint64, off, n int64) iter.Seq2[block.Extent, error]
	Write(ctx context.Context, at disk.At, p []byte, off int64) error
	Zero(ctx context.Context, at disk.At, off, n int64) error
	Flush(ctx context.Context) error
	State(ctx context.Context, o disk.Object) (disk.State, error)
	List(ctx context.Context, from, to uint64) iter.Seq2[disk.Summary, error]
	Entries(ctx context.Context, o disk.Object) iter.Seq2[disk.Entry, error]
	RawBlocks(ctx context.Context, o disk.Object, version uint64, from uint32, p []byte, list []disk.Entry) ([]disk.Entry, error)
	Verify(ctx context.Context, o disk.Object, report func(*disk.BlockError) (more bool)) error
	Repair(ctx context.Context, o disk.Object, revision uint64, fixes []disk.Fix) (made int, err error)
	Dirty(ctx context.Context, from, to uint64) iter.Seq2[disk.DirtyObject, error]
	Clear(ctx context.Context, o disk.Object, s disk.State) (cleared bool, err error)
	Mark(ctx context.Context, o disk.Object) error
	Remove(ctx context.Context, o disk.Object) error
}

var _ Disk = (*disk.Disk)(nil)

// MemberConfig says what a Member is made of. All up to Peer are needed.
type MemberConfig struct {
	// ID and Incarnation are how records name the disk now.
	ID, Incarnation string
	Disk            Disk
	Agreed          Agreed
	Clock           coord.Clock
	// Groups is the number of groups, a power of two, for each number of copies.
	Groups int
	// Peer returns the way to another disk. It does not block.
	Peer func(record.Member) Peer

	// Patience bounds how long a request waits to be admitted, 2 s if 0.
	Patience time.Duration
	// Pace, if not nil, says when Join does what. The context is that of Join.
	Pace Pace
	// Finish, if not nil, is called when a group is all there, and returns when the disk may
	// become a member: those who do so at the same time share a flush and a transaction.
	Finish func(ctx context.Context) error
	// Progress, if not nil, is told before that how far Join has come, from 0 to 1. The
	// context is that of Join.
	Progress func(ctx context.Context, part float64)
}

// A Step does a bit of background work, of n blocks at most if that can be. It reports whether
// there is more to do, and how many bytes were moved.
type Step func(ctx context.Context, n int) (more bool, moved int64, err error)

// A Pace calls a step as often as there is more to do, whenever it may be done, until there is
// an error, which it returns.
type Pace func(ctx context.Context, step Step) error

// A Member is a disk as others see it. It is the Peer of its disk.
type Member struct {
	c MemberConfig
	// prompt is the disk if that has the methods, else nil.
	prompt promptDisk
	mu     sync.RWMutex
	groups map[int]*part
	heads  map[Head]*turns
}

var _ Peer = (*Member)(nil)

// NewMember returns the Member of a disk. The disk remains the caller's, and must not
// be closed before the last request has ended.
func NewMember(c MemberConfig) *Member {
	c.Patience = cmp.Or(c.Patience, 2*time.Second)
	m := &Member{c: c, groups: map[int]*part{}, heads: map[Head]*turns{}}
	m.prompt, _ = c.Disk.(promptDisk)
	return m
}

// A role is what a record gives a disk to do.
type role uint8

const (
	nothing role = iota
	joins
	belongs
)

// A part is what a disk has to do with a group.
type part struct {
	turns turns
	// The mutex of turns guards these. record is that of the epoch.
	record  record.Group
	role    role
	joining *joining
}

// part returns what there is about a group.
func (m *Member) part(number int) *part {
	m.mu.RLock()
	g := m.groups[number]
	m.mu.RUnlock()
	if g != nil {
		return g
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.groups[number] == nil {
		m.groups[number] = &part{}
	}
	return m.groups[number]
}

func epochOrder(e coord.Revision) order { return order{hi: uint64(e)} }

// bounded returns a context for waiting.
func (m *Member) bounded(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := m.c.Clock.AfterFunc(m.c.Patience, func() {
		cancel(fmt.Errorf("disk %s was not ready after %v: %w", m.c.ID, m.c.Patience, ErrUnreachable))
	})
	return ctx, func() { stop(); cancel(nil) }
}

// known returns the record of a group as this side knows it, waiting until that is
// of an epoch at least.
func (m *Member) known(ctx context.Context, number int, epoch coord.Revision) (record.Group, coord.Revision, error) {
	g, e := m.c.Agreed.Group(number)
	if e >= epoch {
		return g, e, nil
	}
	ctx, end := m.bounded(ctx)
	defer end()
	if err := m.c.Agreed.Wait(ctx, epoch); err != nil {
		return g, e, err
	}
	g, e = m.c.Agreed.Group(number)
	return g, e, nil
}

// A pass is that a request has been admitted to a group.
type pass struct {
	g    *part
	role role
	// record and joining are those of the epoch, as long as the request is inside.
	record  record.Group
	joining *joining
	epoch   order
}

func (p *pass) leave() { p.g.turns.leave(p.epoch) }

// admit lets a request for a group in, which must leave.
func (m *Member) admit(ctx context.Context, to *To) (p pass, err error) {
	if to.Disk != m.c.ID || to.Incarnation != m.c.Incarnation {
		return p, fmt.Errorf("this is disk %s in incarnation %s, not %s in %s: %w", m.c.ID, m.c.Incarnation, to.Disk, to.Incarnation, ErrIncarnation)
	}
	rec, epoch, err := m.known(ctx, to.Group, to.Epoch)
	if err != nil {
		return p, err
	}
	if epoch == 0 { // nothing is remembered of groups that somebody made up
		return p, fmt.Errorf("disk %s: there is no group %d: %w", m.c.ID, to.Group, ErrNoMember)
	}
	g := m.part(to.Group)
	g.turns.mu.Lock()
	if g.turns.number.less(epochOrder(epoch)) {
		m.turn(g, rec, epoch)
	}
	p = pass{g, g.role, g.record, g.joining, g.turns.number}
	now := coord.Revision(p.epoch.hi)
	easy := now == to.Epoch && g.turns.before == 0
	if easy && p.role != nothing {
		g.turns.in++
	}
	g.turns.mu.Unlock()
	switch {
	case now != to.Epoch:
		return p, &EpochError{to.Group, now}
	case p.role == nothing:
		return p, fmt.Errorf("disk %s, group %d, epoch %d: %w", m.c.ID, to.Group, now, ErrNoMember)
	case easy:
		return p, nil
	}
	return p, m.queue(ctx, g, to)
}

// queue is admit for one that must wait for those of earlier epochs.
func (m *Member) queue(ctx context.Context, g *part, to *To) error {
	ctx, end := m.bounded(ctx)
	defer end()
	inside, err := g.turns.enter(ctx, epochOrder(to.Epoch))
	if err != nil || inside {
		return err
	}
	g.turns.mu.Lock()
	defer g.turns.mu.Unlock()
	return &EpochError{to.Group, coord.Revision(g.turns.number.hi)}
}

// turn begins an epoch. The mutex of the turns is held.
func (m *Member) turn(g *part, rec record.Group, epoch coord.Revision) {
	g.turns.announce(epochOrder(epoch))
	g.record, g.role = rec, nothing
	is := func(o record.Member) bool { return o.Disk == m.c.ID && o.Incarnation == m.c.Incarnation }
	if slices.ContainsFunc(rec.Members, is) {
		g.role = belongs
	}
	i := slices.IndexFunc(rec.Joining, is)
	if i < 0 {
		g.joining = nil
		return
	}
	g.role = joins
	// If it was removed and added again meanwhile, it has missed writes.
	if g.joining == nil || g.joining.as != rec.Joining[i] {
		g.joining = newJoining(rec.Joining[i])
	}
}

// fence returns the turns of the writers of a head. Before a writer has been opened
// they are of nobody's.
func (m *Member) fence(h Head) *turns {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if t := m.heads[h]; t != nil {
		return t
	}
	return &turns{}
}

// newFence is fence for a writer who is about to be opened.
func (m *Member) newFence(h Head) *turns {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.heads[h] == nil {
		m.heads[h] = &turns{}
	}
	return m.heads[h]
}

func (w *Writer) order() order { return order{uint64(w.Generation), w.Session} }

// Open is that of Peer.
func (m *Member) Open(ctx context.Context, id, incarnation string, w Writer) error {
	if id != m.c.ID || incarnation != m.c.Incarnation {
		return fmt.Errorf("this is disk %s in incarnation %s, not %s in %s: %w", m.c.ID, m.c.Incarnation, id, incarnation, ErrIncarnation)
	}
	ctx, end := m.bounded(ctx)
	defer end()
	if err := m.c.Agreed.Wait(ctx, w.Generation); err != nil {
		return err
	}
	if g := m.c.Agreed.Attachment(w.Head); g != w.Generation {
		return fmt.Errorf("generation %d, disk %s knows %d: %w", w.Generation, m.c.ID, g, ErrFenced)
	}
	t := m.newFence(w.Head)
	t.mu.Lock()
	t.announce(w.order())
	t.mu.Unlock()
	inside, err := t.enter(ctx, w.order())
	if err != nil {
		return err
	}
	if !inside {
		return m.refuse(t, w)
	}
	t.leave(w.order())
	return nil
}

// refuse says why a writer is not admitted.
func (m *Member) refuse(t *turns, w Writer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := ErrSession
	if t.number.hi > uint64(w.Generation) {
		err = ErrFenced
	}
	return fmt.Errorf("generation %d, session %d, disk %s has %d, %d: %w", w.Generation, w.Session, m.c.ID, t.number.hi, t.number.lo, err)
}

// write admits a writer, who must leave the turns.
func (m *Member) write(ctx context.Context, w *Writer) (*turns, error) {
	t := m.fence(w.Head)
	if w.Generation == 0 {
		return t, m.refuse(t, *w)
	}
	t.mu.Lock()
	if t.number == w.order() && t.before == 0 {
		t.in++
		t.mu.Unlock()
		return t, nil
	}
	t.mu.Unlock()
	ctx, end := m.bounded(ctx)
	defer end()
	inside, err := t.enter(ctx, w.order())
	if err == nil && !inside {
		err = m.refuse(t, *w)
	}
	return t, err
}
