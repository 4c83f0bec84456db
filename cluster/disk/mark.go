package disk

import "context"

// Mark makes an object a dirty one, durably, as a change would: it may differ from
// its replicas for a reason that others know of. Clear takes it back.
func (d *Disk) Mark(ctx context.Context, id Object) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	r, err := d.hold(At{Object: id}, nil)
	if err != nil {
		return err
	}
	defer r.end()
	return r.markDirty(ctx)
}
