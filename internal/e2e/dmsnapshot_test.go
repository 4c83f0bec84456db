package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/snapshot"
	_ "github.com/strata-storage/strata/snapshot/legacy"
	"github.com/strata-storage/strata/source"
)

const (
	// The last chunk of the origin is not a whole one.
	dmOrigin = 2<<20 + 5*512
	dmStore  = 6 << 20
	// dmPattern is the size of the disk that the guest takes its data from.
	dmPattern = 1 << 20
)

// The Linux kernel's dm-snapshot and stores of the kind legacy take turns on
// the same devices, whoever made the snapshot, with chunks of many sizes: each
// sees what the other has written to the origin and to the snapshot.
func TestKernelSnapshots(t *testing.T) {
	t.Parallel()
	peer.Need(t, "qemu-system-x86_64", "dmsetup")
	peer.NeedKernel(t)
	l := newDMLab(t)
	for _, sectors := range []int{1, 4, 8, 16, 32, 128, 2048} {
		for _, first := range []string{"kernel", "strata"} {
			// A guest in which something has failed is of no use any more.
			if !t.Run(fmt.Sprintf("%d sectors, %s first", sectors, first), func(t *testing.T) {
				l.on(t).takeTurns(sectors, first == "kernel")
			}) {
				return
			}
		}
	}
	_ = t.Run("merge", func(t *testing.T) { l.on(t).merge() }) &&
		t.Run("full", func(t *testing.T) { l.on(t).full() })
}

// A dmLab has an origin and a store, which a guest can use as /dev/vda and
// /dev/vdb, and what should be in both views.
type dmLab struct {
	t                *testing.T
	guest            *guest
	files            [2]string
	origin, snapshot []byte
	pattern          []byte
	rng              *rand.Rand
}

func newDMLab(t *testing.T) *dmLab {
	t.Helper()
	dir := t.TempDir()
	l := &dmLab{t: t, files: [2]string{filepath.Join(dir, "origin"), filepath.Join(dir, "store")}}
	l.rng = rand.New(rand.NewPCG(5, 6))
	l.pattern = make([]byte, dmPattern)
	for i := range l.pattern {
		l.pattern[i] = byte(l.rng.Uint32())
	}
	pattern := filepath.Join(dir, "pattern")
	l.save(pattern, l.pattern)
	l.reset()
	l.guest = startGuest(t, peer.Initramfs(t, "testdata/shell.sh", "dmsetup"), l.files[0], l.files[1], pattern)
	return l
}

// on returns the lab for a part of the test.
func (l *dmLab) on(t *testing.T) *dmLab {
	part := *l
	part.t, part.guest.t = t, t
	return &part
}

func (l *dmLab) save(path string, p []byte) {
	l.t.Helper()
	if err := os.WriteFile(path, p, 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l *dmLab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// reset makes an origin of random bytes, and a blank store.
func (l *dmLab) reset() {
	l.t.Helper()
	l.origin = make([]byte, dmOrigin)
	for off := 0; off < len(l.origin); off += 4096 {
		copy(l.origin[off:min(off+4096, len(l.origin))], l.pattern[l.rng.IntN(dmPattern-4096):])
	}
	l.snapshot = nil
	l.save(l.files[0], l.origin)
	l.save(l.files[1], make([]byte, dmStore))
}

// A dmChange is what happens to a view in one request.
type dmChange struct {
	view     string
	off, n   int
	from     int // of the pattern, in bytes
	toZeros  bool
	contents []byte
}

// change makes one up, and notes it.
func (l *dmLab) change() dmChange {
	c := dmChange{view: []string{"origin", "snapshot"}[l.rng.IntN(2)], n: 512 * (1 + l.rng.IntN(64))}
	c.off = 512 * l.rng.IntN(dmOrigin/512)
	if l.rng.IntN(2) == 0 {
		// Requests meet in a part of the disk, and its end.
		c.off = dmOrigin - 512*(1+l.rng.IntN(128))
	}
	c.n = min(c.n, dmOrigin-c.off)
	c.from = 512 * l.rng.IntN((dmPattern-c.n)/512)
	c.contents = l.pattern[c.from:][:c.n]
	if c.toZeros = l.rng.IntN(8) == 0; c.toZeros {
		c.contents = make([]byte, c.n)
	}
	if c.view == "origin" {
		copy(l.origin[c.off:], c.contents)
	} else {
		copy(l.snapshot[c.off:], c.contents)
	}
	return c
}

// takeTurns goes on with a snapshot alternately.
func (l *dmLab) takeTurns(sectors int, kernel bool) {
	l.t.Helper()
	l.reset()
	for turn := range 4 {
		if kernel {
			l.kernelTurn(sectors)
		} else {
			l.ourTurn(sectors, turn == 0)
		}
		kernel = !kernel
		l.expectHeader(sectors)
	}
}

// expectHeader looks whether the store is one of the chunk size that was asked
// for.
func (l *dmLab) expectHeader(sectors int) {
	l.t.Helper()
	p, err := os.ReadFile(l.files[1])
	l.must(err)
	want := binary.LittleEndian.AppendUint32([]byte("SnAp\x01\x00\x00\x00\x01\x00\x00\x00"), uint32(sectors))
	if !bytes.HasPrefix(p, want) {
		l.t.Errorf("the store begins with %x, expected %x", p[:len(want)], want)
	}
}

// kernelTurn has the guest look at both views and change them. Without a
// snapshot it takes one.
func (l *dmLab) kernelTurn(sectors int) {
	l.t.Helper()
	if l.snapshot == nil {
		l.snapshot = bytes.Clone(l.origin)
	}
	l.guestOpen("/dev/vdb", sectors)
	l.guestCompare()
	for range 6 {
		c := l.change()
		from := fmt.Sprintf("if=/dev/vdc iflag=direct,skip_bytes skip=%d", c.from)
		if c.toZeros {
			from = "if=/dev/zero"
		}
		l.guest.do("dd %s of=/dev/mapper/%s oflag=direct,seek_bytes conv=notrunc bs=%d seek=%d count=1", from, c.view, c.n, c.off)
	}
	l.guestCompare()
	l.guest.do("dmsetup remove origin && dmsetup remove snapshot")
}

// guestOpen has the guest make devices of the origin and of the snapshot.
func (l *dmLab) guestOpen(store string, sectors int) {
	l.t.Helper()
	l.guest.do("dmsetup create snapshot --table '0 %d snapshot /dev/vda %s P %d' && "+
		"dmsetup create origin --table '0 %d snapshot-origin /dev/vda'", dmOrigin/512, store, sectors, dmOrigin/512)
}

func (l *dmLab) guestCompare() {
	l.t.Helper()
	got := l.guest.do("sha256sum /dev/mapper/origin /dev/mapper/snapshot")
	want := fmt.Sprintf("%x  /dev/mapper/origin\n%x  /dev/mapper/snapshot", sha256.Sum256(l.origin), sha256.Sum256(l.snapshot))
	if got != want {
		l.t.Fatalf("the kernel sees\n%s\nexpected\n%s\n%s", got, want, l.guest.do("dmsetup status; dmesg | tail -n 5"))
	}
}

// open opens the devices with a store of the kind legacy.
func (l *dmLab) open(o snapshot.Options) *snapshot.Set {
	l.t.Helper()
	s := l.set(o)
	l.must(s.Resume(l.t.Context()))
	return s
}

// set is open that reads nothing yet.
func (l *dmLab) set(o snapshot.Options) *snapshot.Set {
	l.t.Helper()
	var devices [2]block.Device
	for i, path := range l.files {
		dev, err := source.File(l.t.Context(), source.FileOptions{Path: path, Shared: true})
		l.must(err)
		devices[i] = dev
	}
	o.Kind, o.Manual = "legacy", true
	s, err := snapshot.New(devices[0], devices[1], o)
	l.must(err)
	return s
}

// ourTurn looks at both views and changes them.
func (l *dmLab) ourTurn(sectors int, first bool) {
	l.t.Helper()
	ctx := l.t.Context()
	var o snapshot.Options // as it is on the device
	if first {
		o.Chunk, o.Format = int64(sectors)*512, snapshot.IfBlank
	}
	s := l.open(o)
	if first {
		l.must(s.Create(ctx, "1", snapshot.CreateOptions{}))
		l.snapshot = bytes.Clone(l.origin)
	}
	view, err := s.Open(ctx, "1", snapshot.OpenOptions{Write: true})
	l.must(err)
	views := map[string]block.Device{"origin": s.Origin(), "snapshot": view}
	l.compare(views)
	for range 6 {
		c := l.change()
		if c.toZeros {
			l.must(views[c.view].Zero(ctx, int64(c.off), int64(c.n), 0))
		} else {
			l.must(views[c.view].WriteAt(ctx, c.contents, int64(c.off), 0))
		}
	}
	l.compare(views)
	l.must(view.Close())
	l.finish(s)
}

// finish checks the store and closes it.
func (l *dmLab) finish(s *snapshot.Set) {
	l.t.Helper()
	l.must(s.Check(l.t.Context(), func(err error) { l.t.Errorf("check: %v", err) }))
	l.must(s.Close())
}

func (l *dmLab) compare(views map[string]block.Device) {
	l.t.Helper()
	for name, want := range map[string][]byte{"origin": l.origin, "snapshot": l.snapshot} {
		got := make([]byte, len(want))
		l.must(views[name].ReadAt(l.t.Context(), got, 0, 0))
		for off := 0; off < len(got); off += 512 {
			if !bytes.Equal(got[off:][:512], want[off:][:512]) {
				l.t.Fatalf("sector %d of the %s is not what was written", off/512, name)
			}
		}
	}
}

// merge has the kernel bring a snapshot home from a store that was made here,
// first a part of it, as far as it comes, and then the rest. Then the origin is
// what the snapshot was, and the list is empty.
func (l *dmLab) merge() {
	l.t.Helper()
	const sectors = 8
	l.reset()
	l.ourTurn(sectors, true)
	l.kernelTurn(sectors)
	merge := fmt.Sprintf("dmsetup create merging --table '0 %d snapshot-merge /dev/vda /dev/vdb P %d'", dmOrigin/512, sectors)
	l.guest.do("%s && dmsetup remove merging", merge)
	got, err := os.ReadFile(l.files[0])
	l.must(err)
	for off := 0; off < dmOrigin; off += 512 {
		if x := got[off:][:512]; !bytes.Equal(x, l.origin[off:][:512]) && !bytes.Equal(x, l.snapshot[off:][:512]) {
			l.t.Fatalf("sector %d of the origin is neither what it was nor what the snapshot has", off/512)
		}
	}
	l.origin = got
	l.ourTurn(sectors, false)
	l.kernelTurn(sectors)

	// It is done when nothing but metadata is left.
	l.guest.do(`%s && until set -- $(dmsetup status merging); [ "${4%%/*}" = "$5" ]; do usleep 20000; done`, merge)
	l.guest.do("dmsetup remove merging")
	l.origin = bytes.Clone(l.snapshot)
	if got, err := os.ReadFile(l.files[0]); err != nil || !bytes.Equal(got, l.origin) {
		l.t.Fatalf("the origin is not what the snapshot was: %v", err)
	}
	s := l.open(snapshot.Options{})
	if n := s.Stats().Store.Exceptions; n != 0 {
		l.t.Errorf("there are %d exceptions, expected none", n)
	}
	l.finish(s)
	l.ourTurn(sectors, false)
	l.kernelTurn(sectors)
}

// full has the kernel give up a snapshot for want of space, and then take part
// again when there is another.
func (l *dmLab) full() {
	l.t.Helper()
	const sectors, space = 8, 160
	l.reset()
	l.guest.do("dmsetup create small --table '0 %d linear /dev/vdb 0'", space)
	l.guestOpen("/dev/mapper/small", sectors)
	l.guest.do("dd if=/dev/vdc of=/dev/mapper/origin bs=65536 count=4 oflag=direct conv=notrunc")
	copy(l.origin, l.pattern[:4*65536])
	l.guestInvalid()
	l.guest.do("dmsetup remove small")

	// It is gone for everybody, which must be said.
	const lost = "the kernel has given up the snapshot in this store"
	s := l.set(snapshot.Options{})
	if err := s.Resume(l.t.Context()); err == nil || !strings.Contains(err.Error(), lost) {
		l.t.Errorf("of a snapshot that was given up is said: %v", err)
	}
	told := false
	l.must(s.Check(l.t.Context(), func(err error) { told = told || strings.Contains(err.Error(), lost) }))
	if !told {
		l.t.Error("the checker says nothing of a snapshot that was given up")
	}
	l.must(s.Close())
	l.save(l.files[1], make([]byte, dmStore))
	l.ourTurn(sectors, true)
	l.kernelTurn(sectors)

	// The kernel understands when a snapshot is given up here.
	s = l.open(snapshot.Options{})
	l.must(s.Delete(l.t.Context(), "1"))
	l.finish(s)
	l.guestOpen("/dev/vdb", sectors)
	l.guestInvalid()
}

// guestInvalid expects that the guest has no snapshot, and closes the devices.
func (l *dmLab) guestInvalid() {
	l.t.Helper()
	if got := l.guest.do("dmsetup status snapshot"); !strings.HasSuffix(got, "Invalid") {
		l.t.Errorf("of a snapshot that is none any more the kernel says %q", got)
	}
	l.guest.do("dmsetup remove origin && dmsetup remove snapshot")
}
