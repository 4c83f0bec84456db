package snapshot_test

import (
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// TestBusy has the text of every error of a snapshot that is exported, written,
// compared or merged, and shows that it is none of the others' concern.
func TestBusy(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := newSet(t, snapshot.Options{}, 1<<20, 8<<20)
	for _, name := range []string{"read", "written", "merged", "free"} {
		create(t, s, name, snapshot.CreateOptions{})
	}
	write(t, s.Origin(), 0, 1<<20, 1)
	var open []block.Device
	for name, o := range map[string]snapshot.OpenOptions{"read": {}, "written": {Write: true}} {
		d, err := s.Open(ctx, name, o)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, d)
	}
	if err := s.Rollback(ctx, "merged"); err != nil {
		t.Fatal(err)
	}
	merged, err := s.Open(ctx, "merged", snapshot.OpenOptions{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		what string
		err  error
		want string
	}{
		{"deleting what is read", s.Delete(ctx, "read"), `snapshot "read" is in use: busy`},
		{"deleting what is written", s.Delete(ctx, "free", "written"), `snapshot "written" is in use: busy`},
		{"deleting what is merged", s.Delete(ctx, "merged"), `the origin is being set back to snapshot "merged": busy`},
		{"writing what is merged", merged.WriteAt(ctx, make([]byte, 4096), 0, 0), "the origin is being set back to this snapshot: busy"},
		{"another rollback", s.Rollback(ctx, "free"), "another rollback has not ended: busy"},
		{"creating during a rollback", s.Create(ctx, "x", snapshot.CreateOptions{}), "a snapshot can be taken when the rollback has ended: busy"},
	} {
		if x.err == nil || x.err.Error() != x.want {
			t.Errorf("%s: %v, expected %s", x.what, x.err, x.want)
		}
	}
	if got := len(s.List()); got != 4 {
		t.Errorf("there are %d snapshots left, expected 4", got)
	}
	if err := s.Delete(ctx, "free"); err != nil {
		t.Errorf("deleting what is free: %v", err)
	}
	for _, d := range append(open, merged) {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	workAll(t, s)
	if err := s.Delete(ctx, "read", "written", "merged"); err != nil {
		t.Errorf("deleting what is free again: %v", err)
	}
}
