package source

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/patience"
	"github.com/strata-storage/strata/internal/peer"
	"golang.org/x/sys/unix"
)

// faulty is the system with calls replaced where a function is set.
type faulty struct {
	linux
	onRead   func(fd int, p []byte, off int64, flags int) (int, error)
	onWrite  func(fd int, p []byte, off int64, flags int) (int, error)
	onSync   func(fd int) error
	onAlloc  func(fd int, mode uint32, off, n int64) error
	onCached func() (uint64, error)
}

func (k *faulty) cached(fd int, off, n int64) (uint64, error) {
	if k.onCached != nil {
		return k.onCached()
	}
	return k.linux.cached(fd, off, n)
}

func (k *faulty) read(fd int, p []byte, off int64, flags int) (int, error) {
	if k.onRead != nil {
		return k.onRead(fd, p, off, flags)
	}
	return k.linux.read(fd, p, off, flags)
}

func (k *faulty) write(fd int, p []byte, off int64, flags int) (int, error) {
	if k.onWrite != nil {
		return k.onWrite(fd, p, off, flags)
	}
	return k.linux.write(fd, p, off, flags)
}

func (k *faulty) sync(fd int) error {
	if k.onSync != nil {
		return k.onSync(fd)
	}
	return k.linux.sync(fd)
}

func (k *faulty) allocate(fd int, mode uint32, off, n int64) error {
	if k.onAlloc != nil {
		return k.onAlloc(fd, mode, off, n)
	}
	return k.linux.allocate(fd, mode, off, n)
}

const testSize = 1 << 20

// faultyFile returns a file of testSize bytes, all of them 1, whose system
// calls can be replaced in k.
func faultyFile(t *testing.T, k *faulty) *file {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, bytes.Repeat([]byte{1}, testSize), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := openFile(t.Context(), FileOptions{Path: path}, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// After a flush has failed none succeeds until the file is opened again, even
// though Linux would say so.
func TestFlushFailureSticks(t *testing.T) {
	t.Parallel()
	for _, fault := range []error{unix.EIO, unix.ENOSPC, unix.EDQUOT} {
		calls := 0
		k := &faulty{onSync: func(int) error {
			if calls++; calls == 2 {
				return fault
			}
			return nil
		}}
		d := faultyFile(t, k)
		ctx := t.Context()
		wantErr(t, "first flush", d.Flush(ctx), nil)
		wantErr(t, "second flush", d.Flush(ctx), fault)
		wantErr(t, "later flush", d.Flush(ctx), fault)
		wantErr(t, "later zero with FUA", d.Zero(ctx, 0, 4096, block.FUA), fault)
		if calls != 2 {
			t.Errorf("%d calls of fdatasync, want 2", calls)
		}
		if err := d.Flush(ctx); !strings.Contains(err.Error(), "reopen it to go on") {
			t.Error(err)
		}
		p := make([]byte, 512)
		wantErr(t, "read", d.ReadAt(ctx, p, 0, 0), nil)
	}
}

// A shared flush covers what was written before it was asked for.
func TestFlushesCover(t *testing.T) {
	t.Parallel()
	var f flushes
	var written, durable, calls atomic.Int64
	sync1 := func() error {
		calls.Add(1)
		durable.Store(written.Load())
		return nil
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				mine := written.Add(1)
				if err := f.do(sync1); err != nil || durable.Load() < mine {
					t.Errorf("flush returned %v with %d durable, want %d", err, durable.Load(), mine)
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("16000 flushes took %d calls", calls.Load())
}

// A durable write syncs by itself, through a description that no other write
// in flight and no flush uses; where the kernel cannot, a flush follows.
func TestDurableWrites(t *testing.T) {
	t.Parallel()
	const together = 4
	var begun, release sync.WaitGroup
	begun.Add(together)
	release.Add(1)
	var mu sync.Mutex
	used := map[int]bool{}
	k := &faulty{}
	d := faultyFile(t, k)
	k.onWrite = func(fd int, p []byte, off int64, flags int) (int, error) {
		if flags != unix.RWF_DSYNC {
			t.Errorf("flags %#x", flags)
		}
		mu.Lock()
		if used[fd] || fd == d.side || fd == d.fd {
			t.Errorf("description %d is shared", fd)
		}
		used[fd] = true
		mu.Unlock()
		begun.Done()
		release.Wait()
		return k.linux.write(fd, p, off, flags)
	}
	var wg sync.WaitGroup
	for i := range int64(together) {
		wg.Go(func() {
			wantErr(t, "write", d.WriteAt(context.Background(), make([]byte, 4096), i<<12, block.FUA), nil)
		})
	}
	begun.Wait()
	release.Done()
	wg.Wait()

	wantErr(t, "no wait", d.WriteAt(t.Context(), make([]byte, 512), 0, block.FUA|block.NoWait), block.ErrWouldBlock)
	var calls []string
	k.onWrite = func(fd int, p []byte, off int64, flags int) (int, error) {
		if flags&unix.RWF_DSYNC != 0 {
			return 0, unix.EOPNOTSUPP
		}
		calls = append(calls, "write")
		return k.linux.write(fd, p, off, flags)
	}
	k.onSync = func(int) error { calls = append(calls, "sync"); return nil }
	wantErr(t, "fallback", d.WriteAt(t.Context(), make([]byte, 512), 0, block.FUA), nil)
	if got := strings.Join(calls, " "); got != "write sync" {
		t.Error(got)
	}
	k.onWrite = func(int, []byte, int64, int) (int, error) { return 0, unix.EIO }
	wantErr(t, "error", d.WriteAt(t.Context(), make([]byte, 512), 0, block.FUA), block.ErrIO)
}

// Short transfers are continued, and errors say what failed where.
func TestShortTransfers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := &faulty{}
	d := faultyFile(t, k)
	k.onWrite = func(fd int, p []byte, off int64, flags int) (int, error) {
		return k.linux.write(fd, p[:min(len(p), 1000)], off, flags)
	}
	k.onRead = func(fd int, p []byte, off int64, flags int) (int, error) {
		return k.linux.read(fd, p[:min(len(p), 999)], off, flags)
	}
	p, q := bytes.Repeat([]byte{2}, 10_000), make([]byte, 10_000)
	wantErr(t, "write", d.WriteAt(ctx, p, 5, 0), nil)
	wantErr(t, "read", d.ReadAt(ctx, q, 5, 0), nil)
	if !bytes.Equal(p, q) {
		t.Error("wrong bytes")
	}
	k.onWrite = func(int, []byte, int64, int) (int, error) { return 0, unix.ENOSPC }
	err := d.WriteAt(ctx, p, 4096, 0)
	wantErr(t, "write", err, block.ErrNoSpace)
	if want := "write at 4096 " + d.path + ": no space left on device"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	k.onRead = func(int, []byte, int64, int) (int, error) { return 0, unix.EIO }
	wantErr(t, "read", d.ReadAt(ctx, p, 0, 0), block.ErrIO)
}

// Whatever keeps a read from being complete at once is left to the same read
// without NoWait.
func TestReadNoWait(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := &faulty{}
	d := faultyFile(t, k)
	if d.quick != quickCached {
		peer.Cannot(t, "this file system has no RWF_NOWAIT")
	}
	p := make([]byte, 8192)
	for name, answer := range map[string]func() (int, error){
		"not cached": func() (int, error) { return 0, unix.EAGAIN },
		"partly":     func() (int, error) { return 4096, nil },
		"end":        func() (int, error) { return 0, nil },
		"bad":        func() (int, error) { return 0, unix.EIO },
	} {
		k.onRead = func(int, []byte, int64, int) (int, error) { return answer() }
		wantErr(t, name, d.ReadAt(ctx, p, 0, block.NoWait), block.ErrWouldBlock)
	}
	k.onRead = nil
	wantErr(t, "wait", d.ReadAt(ctx, p, 0, 0), nil)
}

// Writes that must not wait are tried until they turn out slow, and again
// after a while.
func TestWriteNoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var took time.Duration
		k := &faulty{}
		k.onWrite = func(fd int, p []byte, off int64, flags int) (int, error) {
			if flags&unix.RWF_NOWAIT != 0 {
				return 0, unix.EOPNOTSUPP
			}
			time.Sleep(took)
			return k.linux.write(fd, p, off, flags)
		}
		d := faultyFile(t, k)
		if d.quick == quickNever {
			peer.Cannot(t, "this file system cannot tell what would wait")
		}
		write := func(n int, off int64) error {
			return d.WriteAt(context.Background(), make([]byte, n), off, block.NoWait)
		}
		for range 100 {
			took = 900 * time.Microsecond
			wantErr(t, "quick write", write(4096, 0), nil)
		}
		wantErr(t, "large write", write(quickWrite+4096, 0), block.ErrWouldBlock)
		wantErr(t, "part of a page", write(512, 0), block.ErrWouldBlock)
		took = 100 * time.Millisecond
		wantErr(t, "slow write", write(4096, 0), nil)
		took = 0
		wantErr(t, "soon after", write(4096, 0), block.ErrWouldBlock)
		time.Sleep(100 * time.Millisecond)
		wantErr(t, "a bit later", write(4096, 0), block.ErrWouldBlock)
		time.Sleep(time.Second)
		wantErr(t, "much later", write(4096, 0), nil)
	})
}

// Where the file system says itself that a write would wait, it is believed.
func TestWriteNoWaitNative(t *testing.T) {
	t.Parallel()
	k := &faulty{}
	d := faultyFile(t, k)
	if d.quick == quickNever {
		peer.Cannot(t, "this file system cannot tell what would wait")
	}
	for _, c := range []struct {
		n    int
		err  error
		want error
	}{{512, nil, nil}, {100, nil, block.ErrWouldBlock}, {0, unix.EAGAIN, block.ErrWouldBlock}, {0, unix.EIO, block.ErrWouldBlock}} {
		k.onWrite = func(int, []byte, int64, int) (int, error) { return c.n, c.err }
		wantErr(t, "write", d.WriteAt(t.Context(), make([]byte, 512), 7, block.NoWait), c.want)
	}
}

// Slow calls now and then do not end the patience, and frequent ones are held
// to their share.
func TestPatience(t *testing.T) {
	t.Parallel()
	const ms = int64(time.Millisecond)
	var p patience.Patience
	now := int64(0)
	for range 1000 {
		if !p.Allows(now) {
			t.Fatal("3 ms in every 30 ms are too much")
		}
		p.Charge(now, now+3*ms)
		now += 30 * ms
	}
	p = patience.Patience{}
	spent := int64(0)
	for now = 0; now < 10_000*ms; {
		if p.Allows(now) {
			p.Charge(now, now+2*ms)
			spent += 2 * ms
			now += 2 * ms
		} else {
			now += ms / 10
		}
	}
	if part := float64(spent) / float64(now); part < 0.3 || part > 0.4 {
		t.Errorf("calls that are always slow take %.3f of the time, want a third", part)
	}
}

// What the file system cannot do is done by writing zeros, unless that is
// forbidden, and is not asked for again.
func TestZeroFallbacks(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, c := range []struct {
		name           string
		flags          block.Flags
		punch, zeroing error
		want           error
		modes          []uint32
	}{
		{"hole", 0, nil, nil, nil, []uint32{punchHole, punchHole}},
		{"no hole", block.NoHole, nil, nil, nil, []uint32{zeroRange, zeroRange}},
		{"no punching", 0, unix.EOPNOTSUPP, nil, nil, []uint32{punchHole, zeroRange, zeroRange}},
		{"nothing", 0, unix.EOPNOTSUPP, unix.ENOSYS, nil, []uint32{punchHole, zeroRange}},
		{"nothing fast", block.FastZero, unix.EOPNOTSUPP, unix.EOPNOTSUPP, block.ErrNotSupported, []uint32{punchHole, zeroRange}},
		{"no hole fast", block.FastZero | block.NoHole, nil, unix.EOPNOTSUPP, block.ErrNotSupported, []uint32{zeroRange}},
		{"full", block.NoHole, nil, unix.ENOSPC, block.ErrNoSpace, []uint32{zeroRange, zeroRange}},
	} {
		var modes []uint32
		k := &faulty{}
		d := faultyFile(t, k)
		k.onAlloc = func(fd int, mode uint32, off, n int64) error {
			modes = append(modes, mode)
			err := c.punch
			if mode == zeroRange {
				err = c.zeroing
			}
			if err == nil {
				return k.linux.allocate(fd, punchHole, off, n)
			}
			return err
		}
		for range 2 {
			wantErr(t, c.name, d.Zero(ctx, 1000, 300_000, c.flags), c.want)
		}
		if len(modes) != len(c.modes) {
			t.Errorf("%s: calls %v, want %v", c.name, modes, c.modes)
		}
		for i := range min(len(modes), len(c.modes)) {
			if modes[i] != c.modes[i] {
				t.Errorf("%s: calls %v, want %v", c.name, modes, c.modes)
			}
		}
		p := make([]byte, 302_000)
		wantErr(t, "read", d.ReadAt(ctx, p, 0, 0), nil)
		zero := c.want == nil
		if p[999] != 1 || (p[1000] == 0) != zero || block.IsZero(p[1000:301_000]) != zero || p[301_000] != 1 {
			t.Errorf("%s: wrong bytes", c.name)
		}
	}
	k := &faulty{onAlloc: func(int, uint32, int64, int64) error { return unix.EOPNOTSUPP }}
	d := faultyFile(t, k)
	wantErr(t, "trim", d.Trim(ctx, 0, 4096, 0), nil)
	if i := d.Info(); i.Trims || i.FastZeros {
		t.Error("says that it can trim and zero:", i)
	}
	k = &faulty{}
	d = faultyFile(t, k)
	k.onAlloc = func(int, uint32, int64, int64) error { return unix.EIO }
	wantErr(t, "trim", d.Trim(ctx, 0, 4096, 0), block.ErrIO)
}
