package node

import (
	"strings"
	"testing"
)

// What can be done with volumes through the control socket.
func TestVolumes(t *testing.T) {
	t.Parallel()
	l := start(t)
	ctx := t.Context()
	v, err := l.CreateVolume(ctx, VolumeSpec{Name: "vm1", Size: 1 << 20})
	must(t, err)
	if v.Copies != 1 || v.ObjectSize != 4<<20 || v.Possible != nil || v.Attached != nil || v.URI != l.uri+"vm1" {
		t.Errorf("it is %+v", v)
	}
	change := func(verb string, q VolumeChange) *Volume {
		t.Helper()
		v, err := l.ChangeVolume(ctx, verb, q)
		must(t, err)
		return v
	}
	change("snapshot", VolumeChange{Name: "vm1", Snapshot: "monday"})
	if v := change("clone", VolumeChange{Name: "vm1", Snapshot: "monday", To: "vm2"}); v.CloneOf != "vm1@monday" {
		t.Errorf("a clone is %+v", v)
	}
	change("rollback", VolumeChange{Name: "vm1", Snapshot: "monday", To: "before"})
	change("rename", VolumeChange{Name: "vm1", To: "web"})
	if v := change("resize", VolumeChange{Name: "web", Size: 2 << 20}); v.Size != 2<<20 || v.Snapshots != 2 {
		t.Errorf("it is %+v", v)
	}
	detail, err := l.Volume(ctx, "web")
	must(t, err)
	if s := detail.SnapshotList; len(s) != 2 || s[0].Name != "monday" || s[1].Name != "before" || strings.Join(detail.Clones, " ") != "vm2" {
		t.Errorf("it is %+v", detail)
	}
	tree, err := l.Tree(ctx, "vm2")
	must(t, err)
	var names []string
	for _, v := range tree.Versions {
		names = append(names, v.Volume+"@"+v.Snapshot)
	}
	if got := strings.Join(names, " "); got != "web@monday web@before vm2@ web@" {
		t.Errorf("the tree is %s", got)
	}
	many, err := l.CreateVolume(ctx, VolumeSpec{Name: "many", Size: 1 << 20, Copies: 5})
	must(t, err)
	if many.Copies != 5 || many.Possible == nil || *many.Possible != 1 {
		t.Errorf("with more copies than nodes it is %+v", many)
	}
	must(t, l.DeleteVolume(ctx, "many", "", false))
	must(t, l.DeleteVolume(ctx, "web", "monday", false))
	must(t, l.DeleteVolume(ctx, "vm2", "", false))
	list, err := l.Volumes(ctx)
	must(t, err)
	if len(list) != 1 || list[0].Name != "web" {
		t.Errorf("the volumes are %+v", list)
	}
}

// What cannot be done is refused with a reason.
func TestVolumesRefused(t *testing.T) {
	t.Parallel()
	l := start(t)
	ctx := t.Context()
	create := func(spec VolumeSpec) error {
		_, err := l.CreateVolume(ctx, spec)
		return err
	}
	change := func(verb string, q VolumeChange) error {
		_, err := l.ChangeVolume(ctx, verb, q)
		return err
	}
	must(t, create(VolumeSpec{Name: "vm1", Size: 1 << 20}))
	must(t, change("snapshot", VolumeChange{Name: "vm1", Snapshot: "monday"}))
	_, tree := l.Tree(ctx, "nix")
	_, show := l.Volume(ctx, "nix")
	for _, x := range []struct {
		err  error
		says string
	}{
		{create(VolumeSpec{Name: "vm1", Size: 1}), "exists already"},
		{create(VolumeSpec{Name: "a/b", Size: 1}), `the name "a/b"`},
		{create(VolumeSpec{Name: "a"}), "0 bytes"},
		{create(VolumeSpec{Name: "a", Size: 1, Copies: 99}), "99 copies"},
		{create(VolumeSpec{Name: "a", Size: 1, Copies: 2, MinCopies: 3}), "3 copies for writes"},
		{create(VolumeSpec{Name: "a", Size: 1, Copies: 2, Zones: 3}), "3 zones"},
		{create(VolumeSpec{Name: "a", Size: 1, ObjectSize: 3 << 20}), "3145728 bytes"},
		{change("resize", VolumeChange{Name: "vm1", Size: 1}), "does not become smaller"},
		{change("snapshot", VolumeChange{Name: "vm1", Snapshot: "monday"}), "exists already"},
		{change("clone", VolumeChange{Name: "vm1", Snapshot: "friday", To: "x"}), "not found"},
		{change("rollback", VolumeChange{Name: "vm1", Snapshot: "friday"}), "not found"},
		{change("rename", VolumeChange{Name: "nix", To: "x"}), "not found"},
		{l.DeleteVolume(ctx, "vm1", "", false), "1 snapshots"},
		{l.DeleteVolume(ctx, "vm1", "x", true), "not both"},
		{l.Post(ctx, "/v1/volumes/create", map[string]int{"sise": 1}, nil), "sise"},
		{tree, "not found"},
		{show, "not found"},
	} {
		if x.err == nil || !strings.Contains(x.err.Error(), x.says) {
			t.Errorf("%v, expected %q", x.err, x.says)
		}
	}
}
