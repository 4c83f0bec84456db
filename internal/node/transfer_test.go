package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/snapshot"
	_ "github.com/strata-storage/strata/snapshot/kinds"
	"github.com/strata-storage/strata/snapshot/stream"
)

// exported is the stream of a snapshot.
func (l *lab) exported(t testing.TB, volume, snapshot, since string) []byte {
	t.Helper()
	body, err := l.Export(t.Context(), volume, snapshot, since)
	must(t, err)
	defer body.Close()
	b, err := io.ReadAll(body)
	must(t, err)
	must(t, stream.Verify(bytes.NewReader(b)))
	return b
}

func (l *lab) imported(name string, b []byte) error {
	_, err := l.Import(context.Background(), ImportRequest{VolumeSpec: VolumeSpec{Name: name}}, bytes.NewReader(b), func(Transfer) {})
	return err
}

// content is all that an export holds.
func (l *lab) content(t testing.TB, name string) string {
	t.Helper()
	dev, err := l.cluster.Open(t.Context(), name)
	if volume, snapshot, ok := strings.Cut(name, "@"); ok {
		dev, err = l.cluster.OpenSnapshot(t.Context(), volume, snapshot)
	}
	must(t, err)
	defer dev.Close()
	p := make([]byte, dev.Info().Size)
	must(t, dev.ReadAt(t.Context(), p, 0, 0))
	return string(p)
}

func put(t testing.TB, dev block.Device, off int64, n int, seed uint64) {
	t.Helper()
	p := make([]byte, n)
	blocktest.Fill(p, off, seed)
	must(t, dev.WriteAt(t.Context(), p, off, 0))
}

func (l *lab) snapshot(t testing.TB, volume, name string) {
	t.Helper()
	_, err := l.ChangeVolume(t.Context(), "snapshot", VolumeChange{Name: volume, Snapshot: name})
	must(t, err)
}

// filled makes a volume with the snapshots sunday, monday and tuesday.
func filled(t testing.TB, l *lab) {
	t.Helper()
	_, err := l.CreateVolume(t.Context(), VolumeSpec{Name: "vm1", Size: 9<<20 + 512, ObjectSize: 1 << 20})
	must(t, err)
	dev, err := l.cluster.Open(t.Context(), "vm1")
	must(t, err)
	defer dev.Close()
	put(t, dev, 0, 3<<20, 1)
	put(t, dev, 9<<20, 512, 1)
	l.snapshot(t, "vm1", "sunday")
	put(t, dev, 1<<20+4096, 8192, 2)
	must(t, dev.Zero(t.Context(), 2<<20, 1<<20, 0))
	l.snapshot(t, "vm1", "monday")
	put(t, dev, 5<<20, 1<<20, 3)
	l.snapshot(t, "vm1", "tuesday")
	put(t, dev, 0, 4096, 4)
}

// A volume is carried to another cluster, first all of it and then what is different, and
// from there to a third one, and back.
func TestExportImport(t *testing.T) {
	t.Parallel()
	a, b := start(t), start(t)
	filled(t, a)
	all := a.exported(t, "vm1", "sunday", "")
	monday, tuesday := a.exported(t, "vm1", "monday", "sunday"), a.exported(t, "vm1", "tuesday", "monday")
	if n := len(monday); n < 8192 || n > 20_000 {
		t.Errorf("the difference has %d bytes", n)
	}
	must(t, b.imported("vm3", all))
	must(t, b.imported("vm3", monday))
	must(t, b.imported("vm3", tuesday))
	for _, name := range []string{"sunday", "monday", "tuesday"} {
		if a.content(t, "vm1@"+name) != b.content(t, "vm3@"+name) {
			t.Errorf("the snapshot %s is another one", name)
		}
	}
	if a.content(t, "vm1@tuesday") != b.content(t, "vm3") {
		t.Error("the volume does not go on from its last snapshot")
	}
	// What it has of its own can be carried on, also where the name is another one.
	dev, err := b.cluster.Open(t.Context(), "vm3")
	must(t, err)
	put(t, dev, 7<<20, 4096, 5)
	b.snapshot(t, "vm3", "wednesday")
	must(t, dev.Close())
	if err := a.imported("vm1", b.exported(t, "vm3", "wednesday", "tuesday")); err == nil || !strings.Contains(err.Error(), "has been written since its snapshot tuesday, at 0 for example") {
		t.Errorf("into a volume that was written: %v", err)
	}
	_, err = a.ChangeVolume(t.Context(), "rollback", VolumeChange{Name: "vm1", Snapshot: "tuesday", To: "own"})
	must(t, err)
	must(t, a.DeleteVolume(t.Context(), "vm1", "own", false))
	must(t, a.imported("vm1", b.exported(t, "vm3", "wednesday", "tuesday")))
	if a.content(t, "vm1") != b.content(t, "vm3@wednesday") {
		t.Error("what came back is something else")
	}
	for _, l := range []*lab{a, b} {
		list, err := l.Volumes(t.Context())
		must(t, err)
		if len(list) != 1 {
			t.Errorf("there are the volumes %+v", list)
		}
	}
}

// What does not fit is refused with a reason, and leaves nothing behind.
func TestImportRefused(t *testing.T) {
	t.Parallel()
	l := start(t)
	filled(t, l)
	all, difference := l.exported(t, "vm1", "sunday", ""), l.exported(t, "vm1", "tuesday", "monday")
	must(t, l.imported("copy", all))
	_, err := l.CreateVolume(t.Context(), VolumeSpec{Name: "fresh", Size: 9<<20 + 512})
	must(t, err)
	damaged := bytes.Clone(all)
	damaged[len(damaged)/2] ^= 1
	long := append(bytes.Clone(all[:len(all)-32]), bytes.Repeat([]byte("x"), 8<<20)...)
	for _, x := range []struct {
		name, says string
		stream     []byte
	}{
		{"vm1", "the volume vm1: exists already", all},
		{"a/b", `the name "a/b"`, all},
		{"other", "it ends early: the stream is damaged", all[:len(all)-32]},
		{"other", "the stream is damaged", damaged},
		{"other", "the stream is damaged", long},
		{"other", `it begins with "hello`, []byte(strings.Repeat("hello", 1<<20))},
		{"other", "has to be imported before: the volume other: not found", difference},
		{"fresh", "the volume fresh has no snapshots", difference},
		{"copy", "differs from the snapshot monday (", difference},
		{"vm1", "the snapshot vm1@tuesday: exists already", difference},
	} {
		if err := l.imported(x.name, x.stream); err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v, expected %q", x.name, err, x.says)
		}
	}
	for _, x := range [][4]string{
		{"vm9", "sunday", "", `the volume "vm9": not found`},
		{"vm1", "friday", "", `the snapshot "friday" of the volume "vm1": not found`},
		{"vm1", "monday", "friday", `the snapshot "friday" of the volume "vm1": not found`},
	} {
		if _, err := l.Export(t.Context(), x[0], x[1], x[2]); err == nil || err.Error() != x[3] {
			t.Errorf("exporting %q: %v", x, err)
		}
	}
	list, err := l.Volumes(t.Context())
	must(t, err)
	if len(list) != 3 {
		t.Errorf("there are the volumes %+v", list)
	}
}

// stalling is a stream that does not go on after a while.
type stalling struct {
	io.Reader
	ctx context.Context
}

func (s stalling) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err == io.EOF {
		<-s.ctx.Done()
		return 0, context.Cause(s.ctx)
	}
	return n, err
}

// Nothing is left of an import whose client has gone.
func TestImportAbandoned(t *testing.T) {
	t.Parallel()
	l := start(t)
	filled(t, l)
	all := l.exported(t, "vm1", "tuesday", "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	parts := func() (n int) {
		for name := range l.cluster.Volumes() {
			if strings.HasPrefix(name, "import-") {
				n++
			}
		}
		return n
	}
	result := make(chan error)
	go func() {
		_, err := l.Import(ctx, ImportRequest{VolumeSpec: VolumeSpec{Name: "vm3"}}, stalling{bytes.NewReader(all[:len(all)/2]), ctx}, func(Transfer) {})
		result <- err
	}()
	until := time.Now().Add(30 * time.Second)
	for parts() == 0 && time.Now().Before(until) {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
	for parts() > 0 && time.Now().Before(until) {
		time.Sleep(time.Millisecond)
	}
	if n := parts(); n > 0 {
		t.Errorf("%d volumes are left", n)
	}
}

// A disk with snapshots in a store of another kind becomes a volume with them.
func TestImportDump(t *testing.T) {
	t.Parallel()
	l := start(t)
	s, err := snapshot.New(block.FromBytes(make([]byte, 1<<20)), block.FromBytes(make([]byte, 8<<20)), snapshot.Options{Format: snapshot.IfBlank, Kind: "bitmap"})
	must(t, err)
	must(t, s.Resume(t.Context()))
	defer s.Close()
	fill(t, s.Origin(), 1)
	must(t, s.Create(t.Context(), "monday", snapshot.CreateOptions{}))
	fill(t, s.Origin(), 2)
	var b bytes.Buffer
	must(t, stream.Dump(t.Context(), &b, s))
	must(t, l.imported("vm1", b.Bytes()))
	check(t, l.dial(t, "vm1"), 2)
	check(t, l.dial(t, "vm1@monday"), 1)
}

// A node that stops, while somebody sends it a stream and does not go on, leaves nothing of
// that behind.
func TestStopDuringImport(t *testing.T) {
	t.Parallel()
	l := start(t)
	filled(t, l)
	whole := l.exported(t, "vm1", "tuesday", "")
	send, stream := io.Pipe()
	ended := make(chan error, 1)
	seen := make(chan struct{})
	go func() {
		_, err := l.Import(context.Background(), ImportRequest{VolumeSpec: VolumeSpec{Name: "vm2"}}, send, func(x Transfer) {
			if x.Size > 0 && x.Done > 0 {
				select {
				case <-seen:
				default:
					close(seen)
				}
			}
		})
		ended <- err
		send.Close()
	}()
	go func() { _, _ = stream.Write(whole[:len(whole)*3/4]) }()
	<-seen
	l.Node.Stop()
	must(t, l.Wait())
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "has to be given again: the node stops") {
		t.Errorf("the import has ended with %v", err)
	}
	again, err := Start(t.Context(), l.o)
	must(t, err)
	defer func() {
		again.Stop()
		must(t, again.Wait())
	}()
	for name := range again.cluster.Volumes() {
		if name != "vm1" {
			t.Errorf("there is %s", name)
		}
	}
}

// The stream of a large volume has what is there, and the time for it is not that of what
// might be there.
func TestExportOfThin(t *testing.T) {
	t.Parallel()
	l := start(t)
	_, err := l.CreateVolume(t.Context(), VolumeSpec{Name: "vm1", Size: 64 << 40})
	must(t, err)
	dev, err := l.cluster.Open(t.Context(), "vm1")
	must(t, err)
	for i := range int64(4) {
		put(t, dev, i*20<<40, 1<<20, uint64(i))
	}
	must(t, dev.Close())
	l.snapshot(t, "vm1", "monday")
	began := time.Now()
	b := l.exported(t, "vm1", "monday", "")
	t.Logf("%d bytes in %v", len(b), time.Since(began))
	if len(b) > 5<<20 {
		t.Errorf("the stream has %d bytes", len(b))
	}
	must(t, l.imported("vm2", b))
	l.snapshot(t, "vm2", "own")
	if again := l.exported(t, "vm2", "monday", ""); len(again) != len(b) {
		t.Errorf("what was imported has a stream of %d bytes, not of %d", len(again), len(b))
	}
}
