package node

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/strata-storage/strata/cluster/record"
)

// A Volume describes a volume. Sizes are in bytes.
type Volume struct {
	Name       string `json:"name"`
	Size       int64  `json:"size"`
	ObjectSize int64  `json:"object_size"`
	Copies     int    `json:"copies"`
	MinCopies  int    `json:"min_copies"`
	// Possible is how many copies there are nodes for now, if they are fewer than Copies. The
	// others are made when there are more nodes.
	Possible  *int      `json:"possible_copies,omitempty"`
	Zones     int       `json:"zones,omitempty"`
	Snapshots int       `json:"snapshots"`
	Created   time.Time `json:"created"`
	// Attached is the node that serves it now, null if none does.
	Attached *NodeName `json:"attached"`
	// CloneOf is the volume@snapshot that it began as, if that is there still.
	CloneOf string `json:"clone_of,omitempty"`
	// URI is where the node that was asked serves it, empty if that listens at
	// nothing that has one.
	URI string `json:"uri,omitempty"`
}

// A NodeName says which node is meant.
type NodeName struct {
	ID string `json:"id"`
	// Name is the one for people, which several may have, and Label one of this node
	// alone, made of both if need be.
	Name  string `json:"name"`
	Label string `json:"label"`
}

// A Snapshot describes a snapshot of a volume.
type Snapshot struct {
	Name    string    `json:"name"`
	Size    int64     `json:"size"`
	Created time.Time `json:"created"`
}

// A VolumeDetail is a volume with its snapshots, the oldest first.
type VolumeDetail struct {
	Volume
	SnapshotList []Snapshot `json:"snapshot_list"`
	// Clones are the volumes that began as one of them.
	Clones []string `json:"clones,omitempty"`
}

// A VolumeList has the volumes of a cluster by name.
type VolumeList struct {
	Volumes []Volume `json:"volumes"`
}

// A describer tells people what is in a view.
type describer struct {
	*record.View
	uri   func(export string) string
	nodes map[string]NodeName
	// lines are the names of volumes, made when they are needed.
	lines map[record.Line]string
}

// shortID is how many digits of the ID of a node or disk people see.
const shortID = 8

func newDescriber(v *record.View, uri func(export string) string) *describer {
	d := &describer{View: v, uri: uri, nodes: map[string]NodeName{}}
	count := map[string]int{}
	for _, e := range v.Nodes.All() {
		count[e.Record.Name]++
	}
	for id, e := range v.Nodes.All() {
		n := NodeName{id, e.Record.Name, e.Record.Name}
		if n.Name == "" {
			n.Label = short(id)
		} else if count[n.Name] > 1 {
			n.Label += "/" + short(id)
		}
		d.nodes[id] = n
	}
	return d
}

func short(id string) string { return id[:min(len(id), shortID)] }

// node is what a node is called, also one that is forgotten.
func (d *describer) node(id string) NodeName {
	n, ok := d.nodes[id]
	if !ok {
		n = NodeName{ID: id, Label: short(id)}
	}
	return n
}

// find is the node that somebody means: by its ID, the beginning of it, its name or its
// label.
func (d *describer) find(text string) (NodeName, error) {
	var found []NodeName
	for id, n := range d.nodes {
		if id == text || n.Label == text {
			return n, nil
		}
		if text != "" && (n.Name == text || strings.HasPrefix(id, text)) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return NodeName{}, fmt.Errorf("there is no node %.80q: %w", text, record.ErrNotFound)
	}
	return NodeName{}, fmt.Errorf("%d nodes are called %.80q, name one of them by its ID: %w", len(found), text, errRequest)
}

// volume describes a volume.
func (d *describer) volume(h record.Head) Volume {
	name, family := h.Name.Record, h.Volume.Record
	v := Volume{
		Name: h.Called, Size: name.Size, ObjectSize: family.ObjectSize, Copies: family.Copies, MinCopies: family.MinCopies,
		Zones: family.Zones, Snapshots: name.Snapshots, Created: name.Created, URI: d.uri(h.Called),
	}
	if hosts := d.Hosts(); hosts < v.Copies {
		v.Possible = &hosts
	}
	if a, generation := d.Attachment(h.Line()); generation != 0 {
		n := d.node(a.Node)
		v.Attached = &n
	}
	if f, ok := d.Families.Get(name.Family); ok && name.Line != 1 {
		v.CloneOf = d.origin(f, name.Line)
	}
	return v
}

// origin is the snapshot that a line began as, or "" if it is not there any more.
func (d *describer) origin(f *record.Family, line uint64) string {
	begin, ok := f.Versions.Get(line)
	if !ok {
		return ""
	}
	of, ok := f.Versions.Get(begin.Parent)
	if !ok || of.Name == "" {
		return ""
	}
	volume := d.called(record.Line{Family: f.ID, Line: of.Line})
	if volume == "" {
		return ""
	}
	return volume + "@" + of.Name
}

// called is the name of the volume of a line, "" if it was deleted.
func (d *describer) called(l record.Line) string {
	if d.lines == nil {
		d.lines = map[record.Line]string{}
		for name, e := range d.Names.All() {
			d.lines[record.Line{Family: e.Record.Family, Line: e.Record.Line}] = name
		}
	}
	return d.lines[l]
}

// volumes describes all volumes.
func (d *describer) volumes() VolumeList {
	l := VolumeList{Volumes: []Volume{}}
	for name := range d.Names.All() {
		if h, ok := d.Head(name); ok {
			l.Volumes = append(l.Volumes, d.volume(h))
		}
	}
	return l
}

// detail describes one volume with its snapshots.
func (d *describer) detail(name string) (*VolumeDetail, error) {
	h, ok := d.Head(name)
	if !ok {
		return nil, fmt.Errorf("the volume %.200q: %w", name, record.ErrNotFound)
	}
	v := &VolumeDetail{Volume: d.volume(h), SnapshotList: []Snapshot{}}
	f, ok := d.Families.Get(h.Line().Family)
	if !ok {
		return v, nil
	}
	for _, version := range f.Versions.All() { // their IDs are in the order of time
		if version.Line == h.Line().Line && version.Name != "" {
			v.SnapshotList = append(v.SnapshotList, Snapshot{version.Name, version.Size, version.Created})
		}
		if version.Line != version.ID || version.ID == h.Line().Line {
			continue // it does not begin another volume
		}
		of, _ := f.Versions.Get(version.Parent)
		if clone := d.called(record.Line{Family: f.ID, Line: version.ID}); of.Line == h.Line().Line && clone != "" {
			v.Clones = append(v.Clones, clone)
		}
	}
	return v, nil
}

// A Version is one of a family of volumes that descend from each other.
type Version struct {
	Family uint64 `json:"family"`
	ID     uint64 `json:"id"`
	// Parent is the version that it continues, 0 for none.
	Parent uint64 `json:"parent,omitempty"`
	// Volume is the name of the volume that it is of, and Snapshot what it is called
	// if it is none that is written.
	Volume   string `json:"volume,omitempty"`
	Snapshot string `json:"snapshot,omitempty"`
	// Line is the first version of the volume.
	Line    uint64    `json:"line"`
	Size    int64     `json:"size,omitempty"`
	Created time.Time `json:"created"`
	// Deleted: nobody can read it. It is here for as long as others need it, or it
	// has not been taken apart.
	Deleted bool `json:"deleted,omitempty"`
	// Attached is the node that serves it now.
	Attached *NodeName `json:"attached,omitempty"`
}

// A Tree has the versions of families, the oldest of each first.
type Tree struct {
	Versions []Version `json:"versions"`
}

// tree describes the families of all volumes, or that of one.
func (d *describer) tree(volume string) (*Tree, error) {
	t := &Tree{Versions: []Version{}}
	if volume != "" {
		h, ok := d.Head(volume)
		if !ok {
			return nil, fmt.Errorf("the volume %.200q: %w", volume, record.ErrNotFound)
		}
		f, _ := d.Families.Get(h.Line().Family)
		d.family(t, f)
		return t, nil
	}
	for _, f := range d.Families.All() {
		d.family(t, f)
	}
	return t, nil
}

func (d *describer) family(t *Tree, f *record.Family) {
	if f == nil {
		return
	}
	for id, v := range f.Versions.All() {
		line := record.Line{Family: f.ID, Line: v.Line}
		n := Version{
			Family: f.ID, ID: id, Parent: v.Parent, Line: v.Line, Volume: d.called(line), Snapshot: v.Name,
			Size: v.Size, Created: v.Created, Deleted: v.Doomed,
		}
		if head, _ := d.Names.Get(n.Volume); n.Snapshot == "" && !n.Deleted {
			n.Size, n.Created = head.Record.Size, cmp.Or(n.Created, head.Record.Created)
			if a, generation := d.Attachment(line); generation != 0 {
				by := d.node(a.Node)
				n.Attached = &by
			}
		}
		t.Versions = append(t.Versions, n)
	}
}
