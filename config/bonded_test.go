package config

import (
	"strings"
	"testing"

	"github.com/strata-storage/strata/internal/bond"
	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/snapshot"
)

// The origin of snapshots is not exported for writing without them.
func TestOriginBehindItsStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk(t, dir+"/disk.img", 1<<20)
	const whole = `snapshots("DIR/disk.img", "DIR/s", size="16M")`
	apply := func(text string) error {
		t.Helper()
		s := &Set{}
		_, err := s.Apply(t.Context(), mustLoad(t, &Loader{}, strings.ReplaceAll(text, "DIR", dir)))
		if e := s.Close(t.Context()); e != nil {
			t.Error(e)
		}
		return err
	}
	good := func(text string) {
		t.Helper()
		if err := apply(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	good(`export("d", "DIR/disk.img")`)
	good(`export("d", ` + whole + `)`)
	f, err := open(t, dir, `"DIR/disk.img"`)
	if err != nil {
		t.Fatal(err)
	}
	m, err := bond.Of(f)
	f.Close()
	if m == nil {
		peer.Cannot(t, "the file system has no extended attributes: %v", err)
	}
	for _, text := range []string{
		`export("d", "DIR/disk.img")`,
		`export("d", stats(concat(mem("1M"), "DIR/disk.img")))`,
	} {
		want := strings.ReplaceAll("DIR/disk.img belongs to "+m.Name()+`, and to write to it without its snapshots would ruin them: operation not permitted; export snapshots("DIR/disk.img", STORE), or export it read-only; or, if they are not wanted any more, run: strata snapshot forget DIR/disk.img`, "DIR", dir)
		if err := apply(text); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v\nexpected %s", text, err, want)
		}
	}
	good(`export("d", "DIR/disk.img", read_only=True)`)
	good(`export("d", file("DIR/disk.img", read_only=True))`)
	good(`export("d", cow("DIR/disk.img", "DIR/diff"))`)
	good(`export("d", ` + whole + `)`)
	if f, err = open(t, dir, `"DIR/disk.img"`); err != nil {
		t.Fatal(err)
	}
	if err := snapshot.Forget(f); err != nil {
		t.Error(err)
	}
	f.Close()
	good(`export("d", "DIR/disk.img")`)
}
