package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// disk makes a file of n zeros.
func disk(t testing.TB, path string, n int64) string {
	t.Helper()
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(f.Truncate(n), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// open opens an expression in which DIR is a directory.
func open(t testing.TB, dir, expr string) (block.Device, error) {
	t.Helper()
	s, err := (&Loader{}).Eval(t.Context(), strings.ReplaceAll(expr, "DIR", dir))
	if err != nil {
		return nil, err
	}
	return s.Open(t.Context())
}

// TestSnapshotStoreIsMade: a store that does not exist is made, of the size
// asked for or one that does, and is found again.
func TestSnapshotStoreIsMade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c", "d"} {
		disk(t, dir+"/"+name+".img", 1<<20)
	}
	for _, tt := range []struct {
		expr string
		size int64
	}{
		{`snapshots("DIR/a.img", "DIR/a.snaps")`, 66 << 20},
		{`snapshots("DIR/b.img", "DIR/b.snaps", size="32M")`, 32 << 20},
		{`snapshots("DIR/b.img", "DIR/b.snaps", size="32M", kind="ranged", args={"share": "exact"}, existing=True)`, 32 << 20},
		{`snapshots(origin="DIR/c.img", store="DIR/c.snaps", kind="bitmap", args={"journal": 200}, policy="copyout")`, 66 << 20},
		{`snapshots("DIR/c.img", "DIR/c.snaps")`, 66 << 20},
		{`snapshots("DIR/d.img", mem("32M"), kind="transient")`, 0},
	} {
		d, err := open(t, dir, tt.expr)
		if err != nil {
			t.Errorf("%s: %v", tt.expr, err)
			continue
		}
		if err := d.Close(); err != nil {
			t.Errorf("%s: %v", tt.expr, err)
		}
		_, rest, _ := strings.Cut(tt.expr, ".img\", \"DIR/")
		name, _, ok := strings.Cut(rest, `"`)
		if st, err := os.Stat(filepath.Join(dir, name)); ok && (err != nil || st.Size() != tt.size) {
			t.Errorf("%s: the store is %+v, %v", tt.expr, st, err)
		}
	}
}

// TestSnapshotsErrors has the text of every error that opening can have.
func TestSnapshotsErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk(t, dir+"/disk.img", 1<<20)
	disk(t, dir+"/other.img", 2<<20)
	disk(t, dir+"/new.img", 1<<20)
	if err := os.WriteFile(dir+"/full", []byte(strings.Repeat("x", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := open(t, dir, `snapshots("DIR/disk.img", "DIR/s", size="32M")`)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ expr, want string }{
		{`snapshots("DIR/other.img", "DIR/s")`, `snapshots: store: the store is for an origin of 1048576 bytes and has chunks of 4096, expected 2097152 and 4096: the snapshot store does not fit`},
		{`snapshots("DIR/disk.img", "DIR/s", chunk="64K")`, `snapshots: store: the store is for an origin of 1048576 bytes and has chunks of 4096, expected 1048576 and 65536: the snapshot store does not fit`},
		{`snapshots("DIR/disk.img", "DIR/s", chunk=1000)`, `snapshots: chunk is 1000 bytes, must be a power of two from 512 to 1048576: invalid argument`},
		{`snapshots("DIR/disk.img", "DIR/s", kind="bitmap")`, `snapshots: the store is of the kind ranged, not bitmap: the snapshot store does not fit`},
		{`snapshots("DIR/disk.img", "DIR/s", size="33M")`, `snapshots: the store has 33554432 bytes, not 34603008 as the argument size says: invalid argument`},
		{`snapshots("DIR/new.img", "DIR/full")`, `snapshots: store: there is no snapshot store on the device, and its first 64 KiB are not zeros, as they must be for a store to be made`},
		{`snapshots("DIR/disk.img", "DIR/s", kind="rangd")`, `snapshots: there is no kind of store "rangd", only "bitmap", "legacy", "ranged" and "transient"; did you mean "ranged"?`},
		{`snapshots("DIR/disk.img", "DIR/s", kind="ranged", args={"shar": "exact"})`, `snapshots: argument "shar" is none of the kind ranged, which has "share" and "memory"; did you mean "share"?`},
		{`snapshots("DIR/disk.img", "DIR/s", kind="legacy", args={"share": 1})`, `snapshots: argument "share": stores of the kind legacy have no arguments`},
		{`snapshots("DIR/disk.img", "DIR/s", args={"share": 1.5})`, `snapshots: argument "args" must be a dictionary of strings, but "share" is 1.5`},
		{`snapshots("DIR/disk.img", "DIR/s", args=["share"])`, `snapshots: argument "args" must be a dictionary of strings, not a list`},
		{`snapshots("DIR/disk.img", "DIR/s", policy="stage")`, `snapshots: argument "policy" must be one of "staged", "copyout" and "redirect", not "stage"`},
		{`snapshots("DIR/disk.img", "DIR/s", lock="x")`, `snapshots: argument "lock": lock "x": want none, file:PATH or tcp://HOST:PORT/NAME`},
		{`snapshots("DIR/new.img", mem("32M"), kind="transient", lock="file:DIR/lock")`, `snapshots: store: this kind of store cannot be shared under a lock: operation not supported`},
		{`snapshots("DIR/disk.img")`, `snapshots: argument "store" is missing: The device of the store. A file that is given by its path and does not exist is made, sparse.`},
		{`snapshots(store="DIR/s")`, `snapshots: the device that the layer is made of is missing`},
		{`snapshots("DIR/new.img", "DIR/small", size=4096)`, `snapshots: store: `},
	} {
		_, err := open(t, dir, tt.expr)
		if err == nil || !strings.Contains(err.Error(), ": "+tt.want) && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s:\n%v, want\n%s", tt.expr, err, tt.want)
		}
	}
	if _, err := os.Stat(dir + "/small"); err == nil {
		t.Error("the file of a store that could not be made was left behind")
	}
}

// TestStoreIsLocked: two servers on one store without a lock are refused, with
// one both see the snapshots of each other.
func TestStoreIsLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk(t, dir+"/disk.img", 1<<20)
	const alone = `snapshots("DIR/disk.img", "DIR/s", size="32M")`
	d, err := open(t, dir, alone)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir, alone); err == nil || !strings.HasSuffix(err.Error(), dir+"/disk.img is locked: this process or another one has it open (shared=True takes no lock)") {
		t.Errorf("a second one without a lock: %v", err)
	}
	if _, err := open(t, dir, `snapshots(mem("1M"), "DIR/s", size="32M")`); err == nil || !strings.HasSuffix(err.Error(), dir+"/s is locked: this process or another one has it open (shared=True takes no lock)") {
		t.Errorf("a second one with another origin: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	const both = `snapshots("DIR/disk.img", "DIR/s", lock="file:DIR/lock")`
	var devs []block.Device
	for range 2 {
		d, err := open(t, dir, both)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		devs = append(devs, d.(*opened).Device)
	}
	if err := snapshot.SetOf(devs[0]).Create(t.Context(), "monday", snapshot.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if names, err := devs[1].(block.Viewer).Views(t.Context()); err != nil || len(names) != 1 || names[0] != "monday" {
		t.Errorf("the other one sees %q, %v", names, err)
	}
}
