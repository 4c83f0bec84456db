package cluster

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-storage/strata/block"
)

// Somebody changes what lies on a disk, under a running node: nobody reads it, and it
// is mended when it is read.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	l.nodes[2].order("create", "vm1", "32M")
	c := l.open("vm1", 2)
	ledger := newLedger(32 << 20)
	ledger.work(c, 3)
	wait(t, 2*time.Second)
	for _, err := range ledger.end() {
		t.Error(err)
	}
	must(t, c.Flush(t.Context()))
	t.Logf("%d places were changed", flipBits(t, l.nodes[2].slab(), 300))
	// The third node serves the volume, and reads from its own disk.
	ledger.verify(t, c, true)
	ledger.verify(t, c, true)
	c.pause(t, "bits were flipped", slack)
	must(t, c.Close())
	l.finish()
}

// flipBits changes a bit here and there where a file has data, behind the part that
// says what it is.
func flipBits(t testing.TB, path string, count int) (done int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	rnd := rand.New(rand.NewPCG(1, 2))
	var places []int64
	for off := int64(1 << 20); ; {
		from, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if err != nil {
			break // there are no more
		}
		if off, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
			t.Fatal(err)
		}
		for at := from; at < off; at += 4096 {
			places = append(places, at)
		}
	}
	// The last block says what the file is, too.
	places = places[:len(places)-1]
	rnd.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
	for _, at := range places[:min(count, len(places))] {
		at += rnd.Int64N(4096)
		var b [1]byte
		_, err := f.ReadAt(b[:], at)
		must(t, err)
		b[0] ^= 1 << rnd.IntN(8)
		_, err = f.WriteAt(b[:], at)
		must(t, err)
		done++
	}
	return done
}

// The file system of one node, which votes and is the gateway of a volume, becomes full, by
// what others put there. Clients notice nothing, as the others have room; operators are told;
// and when there is room again all copies come back.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s := newSceneWith(t, func(n *node) {
		if n.name == "node2" {
			n.dir = tmpfs(t, "800M")
			n.config.Dir = filepath.Join(n.dir, "data")
		}
	})
	s.fio.end()
	for _, err := range s.ledger.end() {
		t.Error(err)
	}
	junk := filepath.Join(s.nodes[2].dir, "junk")
	fillUp(t, junk)
	s.ledger.again()
	s.ledger.work(s.b, 2)
	must(t, s.a.WriteAt(t.Context(), make([]byte, 8<<20), 0, 0))
	s.nodes[0].warns("has no room, as the file system of its data has none")
	wait(t, 5*time.Second)
	for _, err := range s.ledger.end() {
		t.Errorf("while a disk is full: %v", err)
	}
	s.paused("a disk was full", afterKill, afterKill)
	if !s.nodes[2].runs() {
		t.Fatalf("the node has ended: %v", s.nodes[2].err)
	}
	must(t, os.Remove(junk))
	s.healthy()
	s.ledger.again()
	s.ledger.work(s.b, 3)
	wait(t, time.Second)
	s.end()
}

// warns waits until a node names a risk for the cluster.
func (n *node) warns(text string) {
	n.t.Helper()
	until(n.t, "the warning "+text, func() bool {
		var h Health
		return n.call("Status", struct{}{}, &h) == nil && strings.Contains(strings.Join(h.Risks, "\n"), text)
	})
}

// The same of a node that does not vote.
func TestFullNonVoter(t *testing.T) {
	t.Parallel()
	l := newLab(t, 4, func(n *node) {
		n.dir = tmpfs(t, "800M")
		n.config.Dir = filepath.Join(n.dir, "data")
	})
	at := slices.IndexFunc(l.nodes, func(n *node) bool {
		_, err := os.Stat(filepath.Join(n.config.Dir, "etcd", "etcd"))
		return err != nil
	})
	if at < 0 {
		t.Fatal("all nodes vote")
	}
	full := l.nodes[at]
	full.order("create", "vm1", "64M")
	c := l.open("vm1", at)
	ledger := newLedger(64 << 20)
	ledger.work(c, 1)
	l.healthy()
	junk := filepath.Join(full.dir, "junk")
	fillUp(t, junk)
	full.warns("has no room")
	wait(t, 3*time.Second)
	for _, err := range ledger.end() {
		t.Errorf("while a disk is full: %v", err)
	}
	c.pause(t, "a disk was full", afterKill)
	must(t, os.Remove(junk))
	l.healthy()
	ledger.verify(t, c, true)
	must(t, c.Close())
	for i := range l.nodes {
		l.nodes[len(l.nodes)-1-i].stop()
	}
	for _, n := range l.nodes {
		n.clean()
		n.inspect()
	}
}

// fillUp writes until there is no room.
func fillUp(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for size := 1 << 20; size >= 4096; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 4
		}
	}
}

// More is written than there is room for. Clients are told so, what was written before
// is there, and can be overwritten and read.
func TestFullCluster(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, func(n *node) { n.config.DiskSize = 96 << 20 })
	l.nodes[1].order("create", "vm1", "256M")
	c := l.open("vm1", 1)
	p := make([]byte, 1<<20)
	full := int64(-1)
	for off := int64(0); off < 256<<20; off += 1 << 20 {
		for i := range p {
			p[i] = byte(off >> 20)
		}
		if err := c.WriteAt(t.Context(), p, off, 0); err != nil {
			if !errors.Is(err, block.ErrNoSpace) {
				t.Errorf("writing to a full cluster: %v", err)
			}
			full = off
			break
		}
	}
	if full < 64<<20 {
		t.Fatalf("full after %d bytes of %d", full, 96<<20)
	}
	must(t, c.Flush(t.Context()))
	// Whoever looks at what was refused has the copies made equal, at the latest the next
	// who attaches the volume.
	must(t, c.ReadAt(t.Context(), p, full, 0))
	for off := int64(0); off < full; off += 1 << 20 {
		must(t, c.ReadAt(t.Context(), p, off, 0))
		if p[0] != byte(off>>20) || p[len(p)-1] != p[0] {
			t.Fatalf("at %d there is %d", off, p[0])
		}
	}
	must(t, c.WriteAt(t.Context(), p, 0, block.FUA))
	must(t, c.Trim(t.Context(), full/2, 4<<20, 0))
	must(t, c.Flush(t.Context()))
	must(t, c.WriteAt(t.Context(), p, full/2, block.FUA))
	c.wrong = nil // the one that was expected
	must(t, c.Close())
	l.finish()
}

// The superblock of a disk is damaged while its node does not run: there is another one.
func TestDamagedSuperblock(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	l.nodes[0].order("create", "vm1", "8M")
	c := l.open("vm1", 0)
	must(t, c.WriteAt(t.Context(), []byte("hello"), 4096, block.FUA))
	must(t, c.Close())
	l.nodes[0].stop()
	f, err := os.OpenFile(l.nodes[0].slab(), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("damaged"), 20)
	must(t, err)
	must(t, f.Close())
	l.nodes[0].start()
	c = l.open("vm1", 0)
	p := make([]byte, 5)
	must(t, c.ReadAt(t.Context(), p, 4096, 0))
	if string(p) != "hello" {
		t.Errorf("read %q", p)
	}
	must(t, c.Close())
	l.finish()
}
