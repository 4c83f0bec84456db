package replica

import (
	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// Prompt is a Peer that can do things for somebody who must not wait. Whatever does not
// succeed at once is left to the other methods.
type Prompt interface {
	// ReadNow does what Read does if that can be done without waiting, and reports
	// whether it has.
	ReadNow(r *Request, p []byte) bool
	// WriteNow does the same for Write. Done means that err is what Write returns.
	WriteNow(r *Request, p []byte) (done bool, err error)
}

// promptDisk is a Disk with such methods.
type promptDisk interface {
	ReadNow(at disk.At, p []byte, off int64) bool
	WriteNow(at disk.At, p []byte, off int64) (done bool, err error)
}

var (
	_ Prompt     = (*Member)(nil)
	_ promptDisk = (*disk.Disk)(nil)
)

// beginNow is begin for who does not wait, at a disk that belongs to the group.
func (m *Member) beginNow(r *Request) (v visit, ok bool) {
	if m.prompt == nil || r.Generation == 0 || r.Off < 0 || r.Off > disk.MaxObject || r.Disk != m.c.ID || r.Incarnation != m.c.Incarnation {
		return v, false
	}
	if copies, _ := record.SplitGroup(r.Group); GroupOf(r.Object(), copies, m.c.Groups) != r.Group {
		return v, false
	}
	if _, epoch := m.c.Agreed.Group(r.Group); epoch != r.Epoch || epoch == 0 {
		return v, false
	}
	g := m.part(r.Group)
	if !g.enterNow(r.Epoch) {
		return v, false
	}
	v = visit{pass{g: g, role: belongs, epoch: epochOrder(r.Epoch)}, m, m.fence(r.Head), r}
	if !v.turns.enterNow(r.Writer.order()) {
		v.leave()
		return v, false
	}
	return v, true
}

// enterNow is enter if that need not wait.
func (t *turns) enterNow(n order) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.number != n || t.before > 0 {
		return false
	}
	t.in++
	return true
}

// enterNow admits a request to a group of which the disk is a member at that epoch.
func (g *part) enterNow(epoch coord.Revision) bool {
	t := &g.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.number != epochOrder(epoch) || t.before > 0 || g.role != belongs {
		return false
	}
	t.in++
	return true
}

// ReadNow is that of Prompt.
func (m *Member) ReadNow(r *Request, p []byte) bool {
	v, ok := m.beginNow(r)
	if !ok {
		return false
	}
	defer v.end()
	return m.prompt.ReadNow(r.at(), p, r.Off)
}

// WriteNow is that of Prompt.
func (m *Member) WriteNow(r *Request, p []byte) (done bool, err error) {
	v, ok := m.beginNow(r)
	if !ok {
		return false, nil
	}
	defer v.end()
	return m.prompt.WriteNow(r.at(), p, r.Off)
}

// maxReadNow bounds what is read by who must not wait. To copy more and to compare its
// checksums takes so long that several processors should do it.
const maxReadNow = 128 << 10

// readNow is ReadAt with block.NoWait: from a disk of this node, if nothing is unusual.
func (v *Volume) readNow(p []byte, off int64) error {
	n := int64(len(p))
	at := off & (v.c.ObjectSize - 1)
	if (off|n)%disk.BlockSize != 0 || n > min(maxReadNow, v.c.ObjectSize-at) {
		return block.ErrWouldBlock
	}
	if v.gate.Enter() != nil {
		return block.ErrWouldBlock // for who can attach it anew
	}
	defer v.gate.Leave()
	if v.Err() != nil || v.c.Lease.Err() != nil {
		return block.ErrWouldBlock
	}
	lock := v.locks.TryRLock(off, n)
	if lock == nil {
		return block.ErrWouldBlock
	}
	defer lock.Unlock()
	if v.some.Load() != 0 || !v.readPartNow(uint64(off/v.c.ObjectSize), p, at) {
		return block.ErrWouldBlock
	}
	return nil
}

// readPartNow is read if a disk of this node can do it at once.
func (v *Volume) readPartNow(index uint64, p []byte, at int64) bool {
	group := v.groupOf(index)
	rec, epoch, err := v.record(group)
	if err != nil {
		return false
	}
	m := v.choose(rec, nil)
	if m == (record.Member{}) {
		return false
	}
	l, h := v.link(m), v.head.Load()
	w := l.current(h)
	if l.prompt == nil || w == nil {
		return false
	}
	r := requests.Get().(*Request)
	defer requests.Put(r)
	*r = Request{To: To{m.Disk, m.Incarnation, group, epoch}, Writer: *w, Index: index, Tree: h.tree, Off: at}
	return l.prompt.ReadNow(r, p)
}
