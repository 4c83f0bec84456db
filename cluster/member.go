package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
)

// ErrRefused: an intent would do harm, and was not forced.
var ErrRefused = errors.New("it is refused, unless it is forced")

// Carry carries an intent out, if Foresee has nothing against it or it is forced. It says
// what it has done, and does not wait for what follows from it.
func (n *Node) Carry(ctx context.Context, i Intent, force bool) (*Foresight, error) {
	f, err := n.Foresee(ctx, i)
	if err != nil {
		return nil, err
	}
	if f.Refused != "" && !force {
		return f, fmt.Errorf("%v %.100q: %w: %s", i.Kind, i.ID, ErrRefused, f.Refused)
	}
	switch i.Kind {
	case Drain, Undrain:
		err = changeRecord(ctx, n, record.NodeKey(f.Node), func(r *record.Node) error {
			r.Draining = i.Kind == Drain
			return nil
		})
	case Weigh:
		err = n.changeDisk(ctx, i.ID, func(d *record.Disk) error { d.Weight = i.Weight; return nil })
	case Forget:
		err = n.forget(ctx, f)
	}
	if err != nil {
		return f, fmt.Errorf("%v %.100q: %w", i.Kind, i.ID, err)
	}
	n.o.Log.Info("an operator has changed the cluster", "what", i.Kind.String(), "node", f.Node, "disks", f.Disks, "weight", i.Weight, "forced", f.Refused != "")
	return f, nil
}

// forget takes a node, or disks, out of the records, and sees to it that they are refused.
func (n *Node) forget(ctx context.Context, f *Foresight) error {
	for {
		done, err := n.tryForget(ctx, f)
		if err != nil || !done {
			if err != nil {
				return err
			}
			continue
		}
		break
	}
	if f.Node == "" {
		return nil
	}
	run, _, err := n.store.Get(ctx, record.RunKey(f.Node))
	if err == nil && run.Lease != 0 {
		err = n.store.Revoke(ctx, run.Lease)
	}
	if err != nil {
		return fmt.Errorf("it is forgotten, but what it holds ends only with its lease: %w", err)
	}
	return n.seenAll(ctx, nil)
}

// tryForget makes the transaction, and returns false if something has changed meanwhile.
func (n *Node) tryForget(ctx context.Context, f *Foresight) (bool, error) {
	a, err := n.authority(ctx)
	if err != nil {
		return false, err
	}
	e, was, err := n.getExpelled(ctx)
	if err != nil {
		return false, err
	}
	v, now := n.state.View(), time.Now().UTC().Round(time.Second)
	t := coord.Txn{If: []coord.Compare{coord.IfRevision(expelledKey, was.Revision)}}
	if f.Node != "" {
		node, ok := v.Nodes.Get(f.Node)
		if !ok {
			return false, record.ErrNotFound
		}
		e.Nodes = append(e.Nodes, expulsion{ID: f.Node, Name: node.Record.Name, Serial: node.Record.Serial, When: now})
		t.If = append(t.If, coord.IfRevision(record.NodeKey(f.Node), node.Revision))
		t.Then = append(t.Then, coord.Delete(record.NodeKey(f.Node)), coord.Delete(agePrefix+f.Node))
	}
	for _, id := range f.Disks {
		d, ok := v.Disks.Get(id)
		if !ok {
			return false, record.ErrNotFound
		}
		e.Disks = append(slices.Clone(e.Disks), expulsion{ID: id, Node: d.Record.Node, When: now})
		t.If = append(t.If, coord.IfRevision(record.DiskKey(id), d.Revision))
		t.Then = append(t.Then, coord.Delete(record.DiskKey(id)), coord.Delete(record.HealthKey(id)))
	}
	if err := e.sign(a); err != nil {
		return false, err
	}
	value, err := json.Marshal(e)
	if err != nil {
		return false, err
	}
	t.Then = append(t.Then, coord.Put(expelledKey, value))
	r, err := n.store.Txn(ctx, t)
	if err == nil && !r.Done {
		err = n.seenAll(ctx, nil) // the copy of the records may have been late
	}
	return r.Done, n.seen(ctx, r.Revision, err)
}
