// Package family knows how the versions of a volume descend from each other.
//
// A volume is a family of versions: the head and its snapshots form a tree, a
// clone is one more head in it. Where a block of a version lies follows from
// the tree alone: it is the block of the nearest ancestor that has one, the
// version itself counting as its own. The tree is small, the data are not, so
// that a snapshot is one more entry here and nothing anywhere else.
package family

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"
)

// A Version is one version of a family.
type Version struct {
	// ID is never given twice within a family, and each new version gets a
	// greater one than all before. 0 is no version.
	ID uint64
	// Parent is the version that this one continues, 0 for none. It is older:
	// its ID is smaller.
	Parent uint64
	// Doomed: nobody can read the version any more. It stays in the tree for as
	// long as descendants may need blocks of it.
	Doomed bool
}

// ErrTree is wrapped by the errors of New.
var ErrTree = errors.New("not a tree of versions")

// A Tree holds the versions of a family as they are at one revision. It does
// not change, and may be used by any number of goroutines.
//
// The versions are cut into lines, in each of which every version is the parent
// of the next; from any version to the root there are at most as many lines as
// the number of versions has bits. A question about ancestors is so a few binary
// searches, whether there are three versions or a hundred thousand.
type Tree struct {
	revision uint64
	// The versions by ID, and for each the place of its parent, -1 for none.
	versions []Version
	parents  []int32
	// lines has the places of the versions line by line; at says where in it a
	// version is, start where its line begins.
	lines, at, start []int32
	// kids has the places of the children, parent by parent; those of the i-th
	// version are kids[first[i]:first[i+1]].
	kids, first []int32
}

// New returns the tree of these versions, in any order, which is that of the
// given revision.
func New(revision uint64, versions []Version) (*Tree, error) {
	t := &Tree{revision: revision, versions: slices.Clone(versions)}
	slices.SortFunc(t.versions, func(a, b Version) int { return cmp.Compare(a.ID, b.ID) })
	t.parents = make([]int32, len(t.versions))
	for i, v := range t.versions {
		switch {
		case v.ID == 0:
			return nil, fmt.Errorf("a version has the ID 0: %w", ErrTree)
		case i > 0 && t.versions[i-1].ID == v.ID:
			return nil, fmt.Errorf("version %d is there twice: %w", v.ID, ErrTree)
		case v.Parent >= v.ID:
			return nil, fmt.Errorf("version %d has the parent %d, expected an older one: %w", v.ID, v.Parent, ErrTree)
		}
		t.parents[i] = -1
		if v.Parent != 0 {
			p, ok := t.find(v.Parent)
			if !ok {
				return nil, fmt.Errorf("version %d has the parent %d, which is not there: %w", v.ID, v.Parent, ErrTree)
			}
			t.parents[i] = int32(p)
		}
	}
	t.listChildren()
	t.drawLines()
	return t, nil
}

// listChildren fills kids and first.
func (t *Tree) listChildren() {
	t.first = make([]int32, len(t.versions)+1)
	for _, p := range t.parents {
		if p >= 0 {
			t.first[p+1]++
		}
	}
	for i := range t.versions {
		t.first[i+1] += t.first[i]
	}
	t.kids = make([]int32, t.first[len(t.versions)])
	next := slices.Clone(t.first)
	for i, p := range t.parents {
		if p >= 0 {
			t.kids[next[p]] = int32(i)
			next[p]++
		}
	}
}

// drawLines continues each line with the child that has the most descendants.
func (t *Tree) drawLines() {
	n := len(t.versions)
	size := make([]int32, n)
	for i := n - 1; i >= 0; i-- {
		size[i]++
		if p := t.parents[i]; p >= 0 {
			size[p] += size[i]
		}
	}
	t.lines, t.at, t.start = make([]int32, 0, n), make([]int32, n), make([]int32, n)
	for i := range t.versions {
		if p := t.parents[i]; p >= 0 && t.heavy(int(p), size) == int32(i) {
			continue
		}
		begin := int32(len(t.lines))
		for j := int32(i); j >= 0; j = t.heavy(int(j), size) {
			t.at[j], t.start[j] = int32(len(t.lines)), begin
			t.lines = append(t.lines, j)
		}
	}
}

// heavy returns the place of the child with the most descendants, -1 for none.
func (t *Tree) heavy(i int, size []int32) int32 {
	best := int32(-1)
	for _, k := range t.children(i) {
		if best < 0 || size[k] > size[best] {
			best = k
		}
	}
	return best
}

func (t *Tree) children(i int) []int32 { return t.kids[t.first[i]:t.first[i+1]] }

func (t *Tree) find(id uint64) (int, bool) {
	return slices.BinarySearchFunc(t.versions, id, func(v Version, id uint64) int { return cmp.Compare(v.ID, id) })
}

// Revision is the one that New was given.
func (t *Tree) Revision() uint64 { return t.revision }

// Len is the number of versions.
func (t *Tree) Len() int { return len(t.versions) }

// Version returns the version with this ID.
func (t *Tree) Version(id uint64) (v Version, ok bool) {
	i, ok := t.find(id)
	if !ok {
		return Version{}, false
	}
	return t.versions[i], true
}

// Versions returns all versions, by ID.
func (t *Tree) Versions() []Version { return slices.Clone(t.versions) }

// Children returns the IDs of the versions whose parent has this ID.
func (t *Tree) Children(id uint64) []uint64 {
	i, ok := t.find(id)
	if !ok {
		return nil
	}
	kids := t.children(i)
	ids := make([]uint64, len(kids))
	for k, j := range kids {
		ids[k] = t.versions[j].ID
	}
	return ids
}

// Leaf reports whether the version is there and has no children: only such a
// one can be written.
func (t *Tree) Leaf(id uint64) bool {
	i, ok := t.find(id)
	return ok && len(t.children(i)) == 0
}

// Floor returns the youngest of a version and its ancestors whose ID is at most
// limit, and 0 if there is none.
func (t *Tree) Floor(id, limit uint64) uint64 {
	i, ok := t.find(id)
	if !ok {
		return 0
	}
	for at := int32(i); at >= 0; {
		line := t.lines[t.start[at] : t.at[at]+1]
		// Versions of a line are younger and younger.
		k := sort.Search(len(line), func(k int) bool { return t.versions[line[k]].ID > limit })
		if k > 0 {
			return t.versions[line[k-1]].ID
		}
		at = t.parents[line[0]]
	}
	return 0
}
