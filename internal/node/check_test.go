package node

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
	"github.com/strata-storage/strata/cluster/record"
)

// spoil changes a byte of a block on the disk of a node, which put has written.
func (l *lab) spoil(t testing.TB, off int64, seed uint64) {
	t.Helper()
	want := make([]byte, 4096)
	blocktest.Fill(want, off, seed)
	err := filepath.WalkDir(l.o.Cluster.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Base(path) != "slab" {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		have := make([]byte, 16<<20)
		n, _ := f.ReadAt(have, 0)
		at := bytes.Index(have[:n], want)
		if at < 0 {
			t.Fatalf("%s does not have the block at %d", path, off)
		}
		_, err = f.WriteAt([]byte{want[9] ^ 1}, int64(at)+9)
		return err
	})
	must(t, err)
}

// A check finds what has changed on a disk, says so, and cannot mend what nobody else has.
func TestCheck(t *testing.T) {
	t.Parallel()
	l := start(t)
	_, err := l.CreateVolume(t.Context(), VolumeSpec{Name: "vm1", Size: 8 << 20})
	must(t, err)
	dev, err := l.cluster.Open(t.Context(), "vm1")
	must(t, err)
	defer dev.Close()
	put(t, dev, 0, 1<<20, 1)
	l.snapshot(t, "vm1", "monday")
	run := func(q CheckRequest) (*CheckEnd, string) {
		var problems []string
		end, err := l.Check(t.Context(), q, func(s CheckStep) { problems = append(problems, s.Problems...) })
		must(t, err)
		return end, strings.Join(problems, "; ")
	}
	if end, problems := run(CheckRequest{Name: "vm1"}); end.Bad != 0 || end.Bytes != 1<<20 || problems != "" {
		t.Errorf("of a sound volume: %+v, %s", end, problems)
	}
	l.spoil(t, 8192, 1)
	for _, repair := range []bool{false, true} {
		end, problems := run(CheckRequest{Name: "vm1", Repair: repair})
		if end.Bad != 1 || end.Mended != 0 || !strings.Contains(problems, "block 2") {
			t.Errorf("of a damaged one: %+v, %s", end, problems)
		}
	}
	if end, _ := run(CheckRequest{Name: "vm1", Digests: true}); end.Bad != 0 || end.Bytes != 0 {
		t.Errorf("without reading: %+v", end)
	}
	if _, err := l.Check(t.Context(), CheckRequest{Name: "vm9"}, func(CheckStep) {}); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("of none: %v", err)
	}
}

// Records that contradict each other are found.
func TestCheckRecords(t *testing.T) {
	t.Parallel()
	view := func(change func(put func(key string, r record.Record))) *record.View {
		m := map[string]record.Record{
			record.NameKey("vm1"):              record.Name{Family: 1, Line: 1, Head: 2, Size: 1 << 20, Snapshots: 1},
			record.VolumeKey(1):                record.Volume{Family: 1, ObjectSize: 4 << 20, Copies: 1, MinCopies: 1, NextVersion: 3},
			record.VersionKey(1, 1):            record.Version{ID: 1, Line: 1, Name: "monday", Size: 1 << 20},
			record.VersionKey(1, 2):            record.Version{ID: 2, Parent: 1, Line: 1},
			record.SnapshotKey(1, 1, "monday"): record.Snapshot{Version: 1},
		}
		change(func(key string, r record.Record) {
			if m[key] = r; r == nil {
				delete(m, key)
			}
		})
		return viewOf(t, m)
	}
	for _, x := range []struct {
		says   string
		change func(put func(string, record.Record))
	}{
		{"", func(func(string, record.Record)) {}},
		{"the head is version 1", func(put func(string, record.Record)) {
			put(record.NameKey("vm1"), record.Name{Family: 1, Line: 1, Head: 1, Size: 1, Snapshots: 1})
		}},
		{"there are 1 snapshots, expected 5", func(put func(string, record.Record)) {
			put(record.NameKey("vm1"), record.Name{Family: 1, Line: 1, Head: 2, Size: 1, Snapshots: 5})
		}},
		{"version 1 is the snapshot monday, which is another one", func(put func(string, record.Record)) {
			put(record.SnapshotKey(1, 1, "monday"), nil)
		}},
		{"the snapshot monday is version 2", func(put func(string, record.Record)) {
			put(record.SnapshotKey(1, 1, "monday"), record.Snapshot{Version: 2})
		}},
		{"parent 7", func(put func(string, record.Record)) {
			put(record.VersionKey(1, 9), record.Version{ID: 9, Parent: 7, Line: 1})
		}},
		{"version 3 exists, and the next one is 3", func(put func(string, record.Record)) {
			put(record.VersionKey(1, 3), record.Version{ID: 3, Line: 3})
		}},
	} {
		got := strings.Join(recordProblems(view(x.change), "vm1"), "; ")
		if !strings.Contains(got, x.says) || (x.says == "") != (got == "") {
			t.Errorf("%q, expected %q", got, x.says)
		}
	}
}

// viewOf is a view of these records.
func viewOf(t *testing.T, m map[string]record.Record) *record.View {
	t.Helper()
	store := memory.NewServer(memory.Options{}).Client(memory.ClientOptions{})
	var ops []coord.Op
	for key, r := range m {
		value, err := record.Encode(key, r)
		must(t, err)
		ops = append(ops, coord.Put(key, value))
	}
	_, err := store.Txn(t.Context(), coord.Txn{Then: ops})
	must(t, err)
	s, err := record.Follow(t.Context(), store)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s.View()
}
