package upkeep

import (
	"context"
	"errors"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// look is how often a disk is asked how it is.
const look = time.Second

// watch is the goroutine that tells of a disk what everybody should know.
func (k *Keeper) watch(ctx context.Context, d *Disk) {
	for saved := k.c.Store.Clock().Now(); ctx.Err() == nil; {
		k.pause(ctx, look)
		d.LookForRoom()
		now, s, told := k.c.Store.Clock().Now(), d.Stats(), k.health(d.ID)
		if now-saved >= k.o.Save || full(s) != told.Full || differ(s.Used, told.Used, s.Size/20) {
			saved = now
			if err := k.save(ctx, d, func(*record.Health) {}); err != nil && ctx.Err() == nil {
				k.c.Log.Debug("how a disk is could not be told", "disk", d.ID, "error", err)
			}
		}
	}
}

// full reports whether a disk has no room, or hardly any.
func full(s disk.Stats) bool { return s.Full || s.MetaFull || s.Free < s.Size/64 }

// differ reports whether two numbers differ by more than some.
func differ(a, b, some int64) bool { return a-b > some || b-a > some }

// change replaces a record by what f makes of it, unless that is nil, and waits until the
// copy shows it.
func (k *Keeper) change(ctx context.Context, key string, f func(coord.Entry) (record.Record, error)) error {
	for ctx.Err() == nil {
		e, _, err := k.c.Store.Get(ctx, key)
		if err != nil {
			return err
		}
		want, err := f(e)
		if err != nil || want == nil {
			return err
		}
		value, err := record.Encode(key, want)
		if err != nil {
			return err
		}
		t, err := k.c.Store.Txn(ctx, coord.Txn{If: []coord.Compare{coord.IfRevision(key, e.Revision)}, Then: []coord.Op{coord.Put(key, value)}})
		if err != nil {
			return err
		}
		if t.Done {
			_, err = k.c.State.Wait(ctx, t.Revision)
			return err
		}
	}
	return context.Cause(ctx)
}

// health is what a disk has last said about itself.
func (k *Keeper) health(id string) record.Health {
	e, _ := k.c.State.View().Health.Get(id)
	return e.Record
}

// save puts what a disk says about itself, with an edit of how far its scrubs are, if
// that is worth it.
func (k *Keeper) save(ctx context.Context, d *Disk, edit func(*record.Health)) error {
	if d.Failure() != nil {
		return nil
	}
	key := record.HealthKey(d.ID)
	return k.change(ctx, key, func(e coord.Entry) (record.Record, error) {
		var was record.Health
		if e.Revision != 0 {
			// What cannot be read is said anew.
			was, _ = record.Decode[record.Health](key, e.Value)
		}
		now := was
		edit(&now)
		s := d.Stats()
		now.Size, now.Full = max(s.Size, 1), full(s)
		// Small changes are not worth that everybody hears of them.
		if differ(s.Used, was.Used, s.Size/200) || now != was {
			now.Used = s.Used
		}
		if now == was {
			return nil, nil
		}
		return now, nil
	})
}

// Order asks disks to begin with a scrub now, all if there are none: of their data, or of
// digests only.
func (k *Keeper) Order(ctx context.Context, data bool, disks ...string) error {
	if len(disks) == 0 {
		for id := range k.c.State.View().Disks.All() {
			disks = append(disks, id)
		}
	}
	now := time.Now().UTC().Round(0)
	var errs []error
	for _, id := range disks {
		key := record.HealthKey(id)
		errs = append(errs, k.change(ctx, key, func(e coord.Entry) (record.Record, error) {
			h := record.Health{Size: 1}
			if e.Revision != 0 {
				var err error
				if h, err = record.Decode[record.Health](key, e.Value); err != nil {
					return nil, err
				}
			}
			if h.Digests.Ordered = now; data {
				h.Data.Ordered = now
			}
			return h, nil
		}))
	}
	return errors.Join(errs...)
}
