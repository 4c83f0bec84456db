package e2e

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/daemon"
	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/internal/race"
	"github.com/strata-storage/strata/nbd"
)

// A thousand snapshots are taken of a disk with a file system while fio and
// others write to it. Each has exactly what it must have, and a file system that
// e2fsck finds clean. Nine of ten are deleted in random order, under load and
// with the server killed again and again. The others stay what they were, and
// the space comes back.
func TestThousandSnapshots(t *testing.T) {
	t.Parallel()
	peer.Need(t, "fio", "debugfs", "mkfs.ext4", "e2fsck", "nbdinfo")
	n := 1000
	if race.Enabled || testing.Short() {
		n = 120
	}
	m := newMany(t, n)
	m.load()
	for i := range n {
		m.create(fmt.Sprintf("snapshot %d", i))
	}
	m.phase("created")
	want(t, run(t, "nbdinfo", "--list", m.uri("")), `export="vm@`+m.names[0]+`":`, `export="vm@`+m.names[n-1]+`":`)
	m.phase("listed")
	for i, name := range m.names {
		m.verify(name, i%(n/20) == 0)
	}
	m.phase("read")
	m.unload()
	rnd := rand.New(rand.NewPCG(3, 4))
	rnd.Shuffle(n, func(i, j int) { m.names[i], m.names[j] = m.names[j], m.names[i] })
	m.load()
	const kills = 6
	for kill := 1; kill <= kills; kill++ {
		keep := n - kill*n*9/10/kills
		for len(m.names) > keep {
			m.remove(min(rnd.IntN(17)+1, len(m.names)-keep))
		}
		m.kill()
		for range 3 {
			m.verify(m.names[rnd.IntN(len(m.names))], true)
		}
	}
	m.unload()
	m.settle()
	m.phase("deleted")
	want(t, m.snapshot("check", "vm"), "vm: sound")
	for _, name := range m.names {
		m.verify(name, true)
	}
	m.noMoreThanNeeded()
	for len(m.names) > 0 {
		m.remove(len(m.names))
	}
	if s := m.settle(); s.Data != 0 || s.Exceptions != 0 {
		t.Errorf("without snapshots the store still holds %+v", s)
	}
}

// many is a disk of many snapshots, and what they must have.
type many struct {
	*snapLab
	t     *testing.T
	ask   *daemon.Client
	fs    *fsStates
	state int // of the file system on the disk
	names []string
	at    map[string]int // the state in each snapshot
	stamp *recorder
	// sums are those of what fio has written, of snapshots that were read.
	seed   maphash.Seed
	sums   map[string]uint64
	unload func()
	began  time.Time
}

func newMany(t *testing.T, n int) *many {
	m := &many{t: t, fs: newFSStates(t, 8), at: map[string]int{}, stamp: newRecorder(fsAreaSize / recordBlock),
		seed: maphash.MakeSeed(), sums: map[string]uint64{}, began: time.Now()}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/disk.img", m.fs.images[0], 0o600); err != nil {
		t.Fatal(err)
	}
	m.snapLab = serveSnapshots(t, dir, fmt.Sprintf(`, size="%dM"`, 256+4*n))
	m.ask = daemon.NewClient(m.control)
	return m
}

// phase logs how long it took.
func (m *many) phase(what string) {
	m.t.Logf("%d snapshots %s after %v", len(m.names), what, time.Since(m.began).Round(time.Millisecond))
}

// dial connects to an export. A machine that has no time for either side is no
// reason to fail.
func (m *many) dial(export string) *nbd.Client {
	m.t.Helper()
	d := &nbd.Dialer{Reconnect: nbd.Reconnect{Off: true}, HandshakeTimeout: time.Hour}
	for tries := 1; ; tries++ {
		c, err := d.Dial(m.t.Context(), m.uri(export))
		if err == nil {
			return c
		}
		if tries == 10 {
			m.t.Fatal(err)
		}
		m.t.Log(err)
	}
}

// load writes to both areas until unload, or until the server is gone.
func (m *many) load() {
	m.t.Helper()
	disk := m.dial("vm")
	fio := exec.CommandContext(m.t.Context(), peer.Need(m.t, "fio"), "--ioengine=nbd", "--uri="+m.uri("vm"), "--thread", "--name=load", "--output-format=terse",
		"--rw=randwrite", "--bs=4k", fmt.Sprint("--offset=", m.fs.load.off), fmt.Sprint("--size=", m.fs.load.n), "--iodepth=8",
		"--fsync=64", "--rate_iops=2000", "--refill_buffers", fmt.Sprint("--randseed=", len(m.names)), "--time_based", "--runtime=600")
	fio.Dir = m.t.TempDir()
	if err := fio.Start(); err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(m.t.Context())
	var work sync.WaitGroup
	seed := uint64(len(m.names))
	work.Go(func() { m.stamp.work(ctx, m.stamps(disk), seed, -1, nil) })
	m.unload = sync.OnceFunc(func() {
		cancel()
		fio.Process.Kill()
		fio.Wait()
		work.Wait()
		disk.Close()
	})
	m.t.Cleanup(m.unload)
}

// stamps is the area of the recorder on a disk.
func (m *many) stamps(disk block.Device) block.Device {
	return &shifted{block.Pass{Device: disk}, m.fs.stamps.off}
}

// A shifted device begins at an offset of another one.
type shifted struct {
	block.Pass
	off int64
}

func (s *shifted) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	return s.Device.ReadAt(ctx, p, off+s.off, flags)
}

func (s *shifted) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	return s.Device.WriteAt(ctx, p, off+s.off, flags)
}

func (s *shifted) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	return s.Device.Zero(ctx, off+s.off, n, flags)
}

// create changes the file system and takes a snapshot.
func (m *many) create(name string) {
	m.t.Helper()
	disk := m.dial("vm")
	defer disk.Close()
	next := (m.state + 1) % len(m.fs.images)
	if err := m.fs.advance(m.t.Context(), disk, m.state, next); err != nil {
		m.t.Fatal(err)
	}
	m.state = next
	err := m.stamp.snapshot(name, func() error {
		return m.ask.ChangeSnapshots(m.t.Context(), "create", daemon.SnapshotRequest{Export: "vm", Names: []string{name}})
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.names, m.at[name] = append(m.names, name), next
}

// verify reads a snapshot and compares it with what it must have.
func (m *many) verify(name string, check bool) {
	m.t.Helper()
	disk := m.read("vm@" + name)
	if err := m.fs.verify(m.at[name], disk); err != nil {
		m.t.Errorf("%s: %v", name, err)
	}
	if err := m.stamp.verifySnapshot(name, disk[m.fs.stamps.off:][:m.fs.stamps.n]); err != nil {
		m.t.Error(err)
	}
	sum := maphash.Bytes(m.seed, disk[m.fs.load.off:][:m.fs.load.n])
	if before, ok := m.sums[name]; ok && before != sum {
		m.t.Errorf("%s: what fio wrote is not what it was", name)
	}
	if m.sums[name] = sum; check {
		fsck(m.t, disk)
	}
}

func (m *many) read(export string) []byte {
	m.t.Helper()
	c := m.dial(export)
	defer c.Close()
	p := make([]byte, fsSize)
	if err := c.ReadAt(m.t.Context(), p, 0, 0); err != nil {
		m.t.Fatalf("%s: %v", export, err)
	}
	return p
}

// remove deletes the last n snapshots.
func (m *many) remove(n int) {
	m.t.Helper()
	keep := len(m.names) - n
	q := daemon.SnapshotRequest{Export: "vm", Names: m.names[keep:]}
	until(m.t, "nobody to use a snapshot", func() bool {
		err := m.ask.ChangeSnapshots(m.t.Context(), "delete", q)
		if err != nil && !strings.Contains(err.Error(), "is in use: busy") {
			m.t.Fatal(err)
		}
		return err == nil
	})
	m.names = m.names[:keep]
}

// kill kills the server while snapshots are being deleted, looks at the files,
// and starts it again: the snapshots were all deleted or none of them.
func (m *many) kill() {
	m.t.Helper()
	last := slices.Clone(m.names[len(m.names)-3:])
	var both sync.WaitGroup
	both.Go(func() {
		m.ask.ChangeSnapshots(m.t.Context(), "delete", daemon.SnapshotRequest{Export: "vm", Names: last})
	})
	both.Go(m.snapLab.kill)
	both.Wait()
	m.unload()
	want(m.t, run(m.t, "strata", "snapshot", "check", m.path("disk.snaps")), "sound")
	m.again()
	l, err := m.ask.Snapshots(m.t.Context(), "vm")
	if err != nil {
		m.t.Fatal(err)
	}
	if len(l.Snapshots) < len(m.names) {
		m.names = m.names[:len(m.names)-len(last)]
	}
	var got []string
	for _, s := range l.Snapshots {
		got = append(got, s.Name)
	}
	slices.Sort(got)
	if expected := slices.Sorted(slices.Values(m.names)); !slices.Equal(got, expected) {
		m.t.Fatalf("after the server was killed there are the snapshots %q, expected %q", got, expected)
	}
	disk := m.dial("vm")
	defer disk.Close()
	if _, err := m.stamp.verify(m.t.Context(), m.stamps(disk)); err != nil {
		m.t.Error(err)
	}
	if err := m.fs.verify(m.state, m.read("vm")); err != nil {
		m.t.Error(err)
	}
	m.load()
}

// settle waits for the end of background work.
func (m *many) settle() (s daemon.SnapshotStatus) {
	m.t.Helper()
	until(m.t, "the end of background work", func() bool {
		l, err := m.ask.Snapshots(m.t.Context(), "vm")
		if err != nil {
			m.t.Fatal(err)
		}
		s = l.Status
		return s.Task == "idle" && s.Pending == 0
	})
	return s
}

// noMoreThanNeeded compares the space in use with what the snapshots differ in
// from the disk and from each other.
func (m *many) noMoreThanNeeded() {
	m.t.Helper()
	const chunk = 4096
	number := func(name string) (n int) {
		fmt.Sscanf(name, "snapshot %d", &n)
		return n
	}
	inOrder := slices.SortedFunc(slices.Values(m.names), func(a, b string) int { return number(a) - number(b) })
	// From the newest back: each chunk that is not what it is later on the disk
	// or in the snapshot before must be on the store.
	later := m.read("vm")
	needed := int64(0)
	for _, name := range slices.Backward(inOrder) {
		p := m.read("vm@" + name)
		for off := 0; off < fsSize; off += chunk {
			if !bytes.Equal(p[off:off+chunk], later[off:off+chunk]) {
				needed++
			}
		}
		later = p
	}
	s := m.settle()
	m.t.Logf("%d snapshots have %d chunks of their own, the store %d in %d bytes", len(m.names), needed, s.Exceptions, s.Data)
	// What was written twice with the same content, as states of the file system
	// and zeros are, is there twice.
	if s.Exceptions < needed-needed/50 || s.Exceptions > needed+needed/8 || s.Data > s.Exceptions*chunk {
		m.t.Errorf("the store holds %d chunks in %d bytes, %d are needed", s.Exceptions, s.Data, needed)
	}
}
