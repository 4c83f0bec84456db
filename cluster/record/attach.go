package record

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
)

// newHead takes the next version of the family for a head.
func (h *Head) newHead(parent, line uint64, now time.Time) Version {
	v := Version{ID: h.Volume.Record.NextVersion, Parent: parent, Line: line, Created: now}
	h.Volume.Record.NextVersion++
	h.Name.Record.Head = v.ID
	return v
}

// Attach gets the right to write a volume, for as long as the lease lasts and
// nobody calls Detach. The generation is the token by which disks refuse who had
// it before. It is refused with ErrInUse if somebody else has it; if the caller
// himself has it, by the same lease, it returns that.
func (c *Catalog) Attach(ctx context.Context, volume string, lease coord.LeaseID, a Attachment) (h Head, generation coord.Revision, err error) {
	own := coord.Revision(0)
	generation, err = c.try(ctx, func(e *edit) (err error) {
		if h, err = e.head(volume); err != nil {
			return err
		}
		key := AttachmentKey(h.Line().Family, h.Line().Line)
		value, err := Encode(key, a)
		if err != nil {
			return err
		}
		was, err := e.get(key)
		if err != nil {
			return err
		}
		if was.Revision != 0 {
			other, err := Decode[Attachment](key, was.Value)
			if err != nil {
				return err
			}
			if was.Lease == lease && other == a {
				own = was.Revision
				return errOwn
			}
			return fmt.Errorf("it is attached by node %s: %w", other.Node, ErrInUse)
		}
		e.Then = append(e.Then, coord.PutLeased(lease, key, value))
		return nil
	})
	if errors.Is(err, errOwn) {
		return h, own, nil
	}
	if err != nil {
		return Head{}, 0, fmt.Errorf("attaching the volume %.200q: %w", volume, err)
	}
	return h, generation, nil
}

// errOwn: the caller has it already.
var errOwn = errors.New("attached already")

// Detach gives up the right to write the volume of a line. It is no error if that
// was over.
func (c *Catalog) Detach(ctx context.Context, l Line, generation coord.Revision) error {
	key := AttachmentKey(l.Family, l.Line)
	_, err := c.Store.Txn(ctx, coord.Txn{
		If:   []coord.Compare{coord.IfRevision(key, generation)},
		Then: []coord.Op{coord.Delete(key)},
	})
	if err != nil {
		return fmt.Errorf("detaching the volume of line %d of family %d: %w", l.Line, l.Family, err)
	}
	return nil
}
