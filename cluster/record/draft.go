package record

import (
	"fmt"
	"maps"
	"slices"

	"github.com/strata-storage/strata/cluster/coord"
)

// A draft is a view that is being made.
type draft struct {
	view *View
	// loading: there was nothing before, and entries come in the order of keys.
	loading bool
	// families are those that nobody else has yet.
	families map[uint64]*Family
}

// load returns the view of a list. Trees of old, which may be nil, are taken over
// where they are still the same.
func load(entries []coord.Entry, at coord.Revision, old *View) (*View, error) {
	d := draft{newView(), true, map[uint64]*Family{}}
	for _, e := range entries {
		if err := d.apply(coord.Event{Entry: e}); err != nil {
			return nil, err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(d.families)) {
		f := d.families[id]
		if old != nil {
			if was, ok := old.Families.Get(id); ok && was.Volume.Revision == f.Volume.Revision && was.bad+f.bad == 0 {
				f.tree = was.tree
			}
		}
		d.view.Families.appendSorted(id, f)
	}
	d.view.Revision = at
	return d.view, nil
}

// after returns the view after a change.
func (v *View) after(c coord.Change) (*View, error) {
	next := *v
	next.next = make(chan struct{})
	next.Revision = c.Revision
	d := draft{&next, false, map[uint64]*Family{}}
	for _, e := range c.Events {
		if err := d.apply(e); err != nil {
			return nil, err
		}
	}
	for id, f := range d.families {
		if f.Volume.Revision == 0 && f.Versions.Len() == 0 && f.Snapshots.Len() == 0 && f.bad == 0 {
			next.Families = next.Families.without(id)
		} else {
			next.Families = next.Families.with(id, f)
		}
	}
	return &next, nil
}

// apply returns an error if nothing can be understood any more.
func (d *draft) apply(e coord.Event) error {
	v := d.view
	k, err := ParseKey(e.Key)
	if err != nil {
		d.note(k, e, err)
		return nil
	}
	if !d.loading && (k.Kind == KindNode || k.Kind == KindDisk) {
		v.needs = &needs{}
	}
	switch k.Kind {
	case KindPool:
		return d.setPool(k, e)
	case KindNode:
		set(d, &v.Nodes, k.ID, k, e)
	case KindRun:
		set(d, &v.Runs, k.ID, k, e)
	case KindDisk:
		set(d, &v.Disks, k.ID, k, e)
	case KindGroup:
		d.setGroup(k, e)
	case KindName:
		set(d, &v.Names, k.Name, k, e)
	case KindAttachment:
		set(d, &v.Attachments, Line{k.Family, k.Version}, k, e)
	case KindDeletion:
		set(d, &v.Deletions, k.Family, k, e)
	case KindHealth:
		set(d, &v.Health, k.ID, k, e)
	case KindVolume, KindVersion, KindSnapshot:
		d.setFamily(d.family(k.Family), k, e)
	}
	return nil
}

func (d *draft) setPool(k Key, e coord.Event) error {
	d.view.Pool = Entry[Pool]{}
	if e.Deleted {
		return nil
	}
	p, err := decode[Pool](k, e.Value)
	if err != nil {
		return fmt.Errorf("record %s: %w", e.Key, err)
	}
	d.view.Pool = Entry[Pool]{p, e.Revision}
	return nil
}

func (d *draft) setGroup(k Key, e coord.Event) {
	entry := Entry[Group]{}
	if r, ok := understand[Group](d, k, e); ok {
		entry = Entry[Group]{r, e.Revision}
	}
	if d.loading {
		d.view.Groups.set(k.Group, entry)
	} else {
		d.view.Groups = d.view.Groups.with(k.Group, entry)
	}
}

func (d *draft) setFamily(f *Family, k Key, e coord.Event) {
	switch k.Kind {
	case KindVolume:
		was := f.Volume.Record
		f.Volume = Entry[Volume]{}
		if r, ok := understand[Volume](d, k, e); ok {
			f.Volume = Entry[Volume]{r, e.Revision}
		}
		if is := f.Volume.Record; !d.loading && (is.Copies != was.Copies || is.MinCopies != was.MinCopies) {
			d.view.needs = &needs{}
		}
	case KindVersion:
		r, ok := understand[Version](d, k, e)
		replace(d, &f.Versions, k.Version, r, ok)
	case KindSnapshot:
		r, ok := understand[Snapshot](d, k, e)
		replace(d, &f.Snapshots, SnapshotName{k.Version, k.Name}, r, ok)
	}
}

// family returns one that may be changed.
func (d *draft) family(id uint64) *Family {
	f := d.families[id]
	if f != nil {
		return f
	}
	if old, ok := d.view.Families.Get(id); ok {
		c := *old
		c.tree = &lazyTree{}
		f = &c
	} else {
		f = newFamily(id)
	}
	d.families[id] = f
	return f
}

// set does to a map what an event says.
func set[K any, T Record](d *draft, m *Map[K, Entry[T]], key K, k Key, e coord.Event) {
	r, ok := understand[T](d, k, e)
	replace(d, m, key, Entry[T]{r, e.Revision}, ok)
}

func replace[K, V any](d *draft, m *Map[K, V], key K, value V, there bool) {
	switch {
	case there && d.loading:
		m.appendSorted(key, value)
	case there:
		*m = m.with(key, value)
	default:
		*m = m.without(key)
	}
}

// understand returns the record of an event, if there is one.
func understand[T Record](d *draft, k Key, e coord.Event) (r T, ok bool) {
	if e.Deleted {
		d.note(k, e, nil)
		return r, false
	}
	r, err := decode[T](k, e.Value)
	d.note(k, e, err)
	return r, err == nil
}

// note notes whether an entry can be understood.
func (d *draft) note(k Key, e coord.Event, err error) {
	_, was := d.view.Bad.Get(e.Key)
	is := err != nil && !e.Deleted
	if is {
		d.view.Bad = d.view.Bad.with(e.Key, fmt.Errorf("record %s: %w", e.Key, err))
	} else if was {
		d.view.Bad = d.view.Bad.without(e.Key)
	}
	if was != is && (k.Kind == KindVolume || k.Kind == KindVersion || k.Kind == KindSnapshot) {
		if f := d.family(k.Family); is {
			f.bad++
		} else {
			f.bad--
		}
	}
}
