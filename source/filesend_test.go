package source

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-storage/strata/block"
)

// pair returns two connected sockets, the first of which does not block.
func pair(t *testing.T) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds[0], fds[1]
}

func TestFileSend(t *testing.T) {
	t.Parallel()
	d := faultyFile(t, &faulty{})
	if err := d.WriteAt(t.Context(), bytes.Repeat([]byte{7}, 5000), 8000, 0); err != nil {
		t.Fatal(err)
	}
	if !d.CanSend(7000, 10_000) {
		t.Fatal("what was just written is not in the page cache")
	}
	a, b := pair(t)
	want := append(bytes.Repeat([]byte{1}, 1000), bytes.Repeat([]byte{7}, 5000)...)
	if n, err := d.SendTo(uintptr(a), 7000, 6000); n != 6000 || err != nil {
		t.Fatal(n, err)
	}
	got := make([]byte, 7000)
	if n, err := unix.Read(b, got); err != nil || !bytes.Equal(got[:n], want) {
		t.Error(n, err)
	}
	for sent := 0; ; {
		n, err := d.SendTo(uintptr(a), int64(sent), testSize-sent)
		if sent += n; err == nil && sent < testSize {
			continue
		}
		if err != unix.EAGAIN {
			t.Error("the socket is full:", n, err)
		}
		break
	}
	if _, err := d.SendTo(uintptr(a), testSize-10, 20); !errors.Is(err, block.ErrRange) {
		t.Error(err)
	}
	d.Close()
	if d.CanSend(0, 4096) {
		t.Error("a closed file can be sent")
	}
	if _, err := d.SendTo(uintptr(a), 0, 4096); !errors.Is(err, block.ErrClosed) {
		t.Error(err)
	}
}

// What is not known to be data in memory is read in the usual way.
func TestFileCanSend(t *testing.T) {
	t.Parallel()
	k := &faulty{}
	d := faultyFile(t, k)
	if err := os.Truncate(d.path, 2*testSize); err != nil {
		t.Fatal(err)
	}
	if !d.CanSend(0, 64<<10) || d.CanSend(testSize-4096, 8192) {
		t.Error("data", d.CanSend(0, 64<<10), "hole", d.CanSend(testSize-4096, 8192))
	}
	calls := 0
	k.onCached = func() (uint64, error) { calls++; return 0, unix.ENOSYS }
	for range 3 {
		if d.CanSend(0, 4096) {
			t.Error("can send without knowing")
		}
	}
	if calls != 1 {
		t.Error("a system without cachestat is asked", calls, "times")
	}
}

func TestFileSendShort(t *testing.T) {
	t.Parallel()
	d := faultyFile(t, &faulty{})
	if err := os.Truncate(d.path, 8192); err != nil {
		t.Fatal(err)
	}
	a, _ := pair(t)
	if n, err := d.SendTo(uintptr(a), 4096, 8192); n != 4096 || err != nil {
		t.Error(n, err)
	}
	if _, err := d.SendTo(uintptr(a), 8192, 4096); !errors.Is(err, block.ErrIO) {
		t.Error(err)
	}
}
