package config

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/bond"
	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/snapshot"
)

// TestLostStore: a disk whose store is missing, or is another one or an older
// one, is refused with what to do, and nothing is made. It can be forgotten.
func TestLostStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk(t, dir+"/disk.img", 1<<20)
	const expr = `snapshots("DIR/disk.img", "DIR/s", size="16M")`
	use := func(expr string) error {
		d, err := open(t, dir, expr)
		if err != nil {
			return err
		}
		return d.Close()
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(use(expr))
	old, err := os.ReadFile(dir + "/s")
	must(err)
	must(use(expr))
	f, err := open(t, dir, `"DIR/disk.img"`)
	must(err)
	if block.NoterOf(f) == nil {
		t.Fatal("a file keeps no notes")
	}
	m, err := bond.Of(f)
	must(f.Close())
	if errors.Is(err, block.ErrNotSupported) {
		peer.Cannot(t, "the file system has no extended attributes")
	}
	must(err)
	mark := m.Name()
	const hint = "; without the right one the newest data of the disk and all its snapshots may be missing. Put it back; or, to use the disk as it is, run: strata snapshot forget DIR/disk.img"
	refused := func(what, expr, want string) {
		t.Helper()
		err := use(expr)
		if want = strings.ReplaceAll(want, "DIR", dir); err == nil || !strings.HasSuffix(err.Error(), "snapshots: "+want) {
			t.Errorf("%s: %v\nexpected %s", what, err, want)
		}
	}
	must(os.Rename(dir+"/s", dir+"/elsewhere"))
	refused("missing", expr, "store: DIR/s does not exist, and the origin belongs to "+mark+": that is not the store of this origin"+hint)
	if _, err := os.Stat(dir + "/s"); err == nil {
		t.Error("a store was made all the same")
	}
	must(use(`snapshots("DIR/disk.img", "DIR/elsewhere")`))
	disk(t, dir+"/s", 16<<20)
	refused("blank", expr, "store: there is no store on the device, and the origin belongs to "+mark+": that is not the store of this origin"+hint)
	must(os.WriteFile(dir+"/s", old, 0o600))
	refused("older", expr, "store: the store is an older copy: it has been used 1 times, with the origin as it is 3 times: that is not the store of this origin"+hint)
	disk(t, dir+"/other.img", 1<<20)
	must(use(`snapshots("DIR/other.img", "DIR/t", size="16M")`))
	if err := use(`snapshots("DIR/disk.img", "DIR/t")`); err == nil || !strings.Contains(err.Error(), "store: the origin belongs to "+mark+", this is the ranged store ") {
		t.Errorf("another: %v", err)
	}

	f, err = open(t, dir, `"DIR/disk.img"`)
	must(err)
	must(snapshot.Forget(f))
	must(f.Close())
	must(os.Remove(dir + "/s"))
	if err := use(`snapshots("DIR/disk.img", "DIR/s", existing=True)`); err == nil || !strings.HasSuffix(err.Error(), dir+"/s: no such file or directory") {
		t.Errorf("a store that must exist: %v", err)
	}
	disk(t, dir+"/s", 16<<20)
	if err := use(`snapshots("DIR/disk.img", "DIR/s", existing=True)`); err == nil || !strings.HasSuffix(err.Error(), "there is no snapshot store on the device, and existing=True makes none") {
		t.Errorf("a store that must exist, blank: %v", err)
	}
	must(use(expr))
	must(use(`snapshots("DIR/disk.img", "DIR/s", existing=True)`))
}
