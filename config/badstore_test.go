package config

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/snapshot"
)

// TestBadStores has the text of the error for each way in which the store of a
// disk with a snapshot can be another one, or not what it was. None of them is
// changed by the attempt.
func TestBadStores(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk(t, dir+"/disk.img", 1<<20)
	d, err := open(t, dir, `snapshots("DIR/disk.img", "DIR/good", size="16M")`)
	if err != nil {
		t.Fatal(err)
	}
	set := snapshot.SetOf(d.(*opened).Device)
	if err := set.Create(t.Context(), "monday", snapshot.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteAt(t.Context(), make([]byte, 64<<10), 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = open(t, dir, `"DIR/disk.img"`); err != nil {
		t.Fatal(err)
	}
	// What is wrong is to be found without what the origin knows.
	if err := errors.Join(snapshot.Forget(d), d.Close()); err != nil && !errors.Is(err, block.ErrNotSupported) {
		t.Fatal(err)
	}
	good, err := os.ReadFile(dir + "/good")
	if err != nil {
		t.Fatal(err)
	}
	const last = 16<<20 - 4096
	for _, x := range []struct {
		name string
		do   func(p []byte) []byte
		want string
	}{
		{"version", func(p []byte) []byte {
			binary.LittleEndian.PutUint32(p[12:], 9)
			binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p[12:4096], crc32.MakeTable(crc32.Castagnoli)))
			return p
		}, "format version 9, expected 2: the snapshot store does not fit"},
		{"truncated", func(p []byte) []byte { return p[:8<<20] }, "the store has 16777216 bytes, the device only 8388608: the snapshot store does not fit"},
		{"both superblocks", func(p []byte) []byte { p[100] ^= 1; p[last+100] ^= 1; return p },
			"the checksum of the superblock is wrong: the snapshot store is damaged"},
		{"the checkpoints", func(p []byte) []byte {
			for slot := range 64 {
				p[4096+slot*4096+100] ^= 1
			}
			return p
		}, "there is no checkpoint: the snapshot store is damaged"},
		{"the magic", func(p []byte) []byte { p[0] ^= 1; return p },
			"there is no snapshot store on the device, and its first 64 KiB are not zeros, as they must be for a store to be made"},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := x.do(append([]byte{}, good...))
			if err := os.WriteFile(dir+"/bad", p, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := open(t, dir, `snapshots("DIR/disk.img", "DIR/bad")`)
			if err == nil || !strings.HasSuffix(err.Error(), "snapshots: store: "+x.want) {
				t.Errorf("%v\nexpected %s", err, x.want)
			}
			if now, err := os.ReadFile(dir + "/bad"); err != nil || string(now) != string(p) {
				t.Errorf("the store was changed: %v", err)
			}
		})
	}
}
