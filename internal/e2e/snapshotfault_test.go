package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-storage/strata/internal/daemon"
	"github.com/strata-storage/strata/nbd"
)

// troubled is a disk with snapshots on devices that fail at times.
type troubled struct {
	*snapLab
	t     *testing.T
	r     *recorder
	ask   *daemon.Client
	disk  *nbd.Client
	names []string
	tries int
}

const troubledSize = 4 << 20

func newTroubled(t *testing.T, l *snapLab) *troubled {
	x := &troubled{snapLab: l, t: t, r: newRecorder(troubledSize / recordBlock), ask: daemon.NewClient(l.control)}
	x.connect()
	return x
}

func (x *troubled) connect() {
	x.t.Helper()
	c, err := (&nbd.Dialer{Reconnect: nbd.Reconnect{Off: true}}).Dial(x.t.Context(), x.uri("vm"))
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { c.Close() })
	x.disk = c
}

// work writes, and takes some snapshots, until nothing can be written. It calls
// trouble after so many changes, and ends after as many more at the latest.
func (x *troubled) work(changes int, trouble func()) {
	x.t.Helper()
	var work sync.WaitGroup
	ctx, cancel := context.WithCancel(x.t.Context())
	seed := uint64(x.tries)
	work.Go(func() {
		defer cancel()
		x.r.work(ctx, x.disk, seed, changes, trouble)
	})
	begun := func() uint64 {
		x.r.mu.Lock()
		defer x.r.mu.Unlock()
		return x.r.number
	}
	first := begun()
	next := first
	until(x.t, "writes to fail", func() bool {
		now := begun()
		if changes > 0 && now > first+2*uint64(changes) {
			cancel()
		}
		if now >= next && ctx.Err() == nil {
			next = now + 40
			x.take()
		}
		return ctx.Err() != nil
	})
	work.Wait()
}

// take takes a snapshot, if that is possible.
func (x *troubled) take() {
	x.tries++
	name := fmt.Sprint("s", x.tries)
	err := x.r.snapshot(name, func() error {
		return x.ask.ChangeSnapshots(x.t.Context(), "create", daemon.SnapshotRequest{Export: "vm", Names: []string{name}})
	})
	if err == nil {
		x.names = append(x.names, name)
	}
}

// verify compares everything with what it must be.
func (x *troubled) verify(when string) {
	x.t.Helper()
	if err := x.r.current(x.t.Context(), x.disk); err != nil {
		x.t.Fatalf("%s: %v", when, err)
	}
	l, err := x.ask.Snapshots(x.t.Context(), "vm")
	if err != nil {
		x.t.Fatal(err)
	}
	there := map[string]bool{}
	for _, s := range l.Snapshots {
		there[s.Name] = true
	}
	for _, name := range x.names {
		if !there[name] {
			x.t.Errorf("%s: snapshot %s is gone", when, name)
			continue
		}
		c, err := (&nbd.Dialer{Reconnect: nbd.Reconnect{Off: true}}).Dial(x.t.Context(), x.uri("vm@"+name))
		if err != nil {
			x.t.Fatal(err)
		}
		p := make([]byte, troubledSize)
		if err := c.ReadAt(x.t.Context(), p, 0, 0); err != nil {
			x.t.Fatalf("%s: snapshot %s: %v", when, name, err)
		}
		c.Close()
		if err := x.r.verifySnapshot(name, p); err != nil {
			x.t.Errorf("%s: %v", when, err)
		}
	}
}

// restart kills the server, looks at the devices, and starts it again.
func (x *troubled) restart(when string) {
	x.t.Helper()
	x.kill()
	want(x.t, run(x.t, "strata", "snapshot", "check", x.path("disk.img"), x.path("disk.snaps")), "sound")
	x.again()
	x.connect()
	if _, err := x.r.verify(x.t.Context(), x.disk); err != nil {
		x.t.Fatalf("%s, after a restart: %v", when, err)
	}
	x.verify(when + ", after a restart")
}

// The file system of origin and store is full, again and again. No snapshot is
// lost and nothing that was answered, also when the server is killed then, and
// with room it goes on.
func TestSnapshotsOnAFullFileSystem(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"staged", "copyout", "redirect"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			size := 8
			dir := tmpfs(t, fmt.Sprintf("size=%dm", size))
			run(t, "truncate", "-s", fmt.Sprint(troubledSize), dir+"/disk.img")
			x := newTroubled(t, serveSnapshots(t, dir, `, policy="`+policy+`"`))
			for round := range 3 {
				when := fmt.Sprintf("full for the %d. time", round+1)
				x.work(-1, nil)
				x.verify(when)
				if round > 0 {
					x.restart(when)
				}
				if size += 4; round == 2 {
					size = 64
				}
				if err := unix.Mount("", dir, "", unix.MS_REMOUNT, fmt.Sprintf("size=%dm", size)); err != nil {
					t.Fatal(err)
				}
				if err := x.r.flush(t.Context(), x.disk); err != nil {
					t.Errorf("%s, a flush when there is room: %v", when, err)
				}
			}
			if len(x.names) < 3 {
				t.Errorf("only the snapshots %q were taken", x.names)
			}
			x.restart("with room")
			want(t, x.snapshot("check", "vm"), "vm: sound")
		})
	}
}

// One of the two devices fails for a while, in the middle of work. Requests
// fail, nothing else, and afterwards all is as before.
func TestSnapshotsOnFailingDevices(t *testing.T) {
	t.Parallel()
	for _, ops := range []string{`"write", "zero", "trim", "flush"`, `"flush"`, `"read"`} {
		for _, device := range []string{"origin", "store"} {
			t.Run(strings.ReplaceAll(ops, `"`, "")+" of the "+device, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				run(t, "truncate", "-s", fmt.Sprint(troubledSize), dir+"/disk.img")
				run(t, "truncate", "-s", "256M", dir+"/disk.snaps")
				fails := func(name, path string) string {
					if name != device {
						return `"` + path + `"`
					}
					return fmt.Sprintf(`fault("%s", %s, file="broken")`, path, ops)
				}
				l := &snapLab{t: t, dir: dir, control: shortDir(t) + "/c"}
				l.args = []string{"--control", l.control, fmt.Sprintf("vm=snapshots(%s, %s)", fails("origin", "disk.img"), fails("store", "disk.snaps"))}
				l.again()
				x := newTroubled(t, l)
				for round := range 3 {
					when := fmt.Sprintf("broken for the %d. time", round+1)
					x.work(200, func() {
						if err := os.WriteFile(x.path("broken"), nil, 0o600); err != nil {
							t.Error(err)
						}
					})
					if round == 2 {
						x.kill()
					}
					if err := os.Remove(x.path("broken")); err != nil {
						t.Fatal(err)
					}
					if round == 2 {
						x.restart(when)
						continue
					}
					if err := x.r.flush(t.Context(), x.disk); err != nil {
						t.Errorf("%s, a flush afterwards: %v", when, err)
					}
					x.verify(when)
				}
				want(t, x.snapshot("check", "vm"), "vm: sound")
			})
		}
	}
}

// An origin that somebody cuts off gives errors where it is missing, for the
// disk and for its snapshots, and is refused at the next start.
func TestOriginShrinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, "truncate", "-s", "16M", dir+"/disk.img")
	l := serveSnapshots(t, dir, "")
	run(t, "qemu-io", "-f", "raw", "-c", "write -P 0x11 0 16M", l.uri("vm"))
	l.snapshot("create", "vm", "monday")
	run(t, "qemu-io", "-f", "raw", "-c", "write -P 0x22 12M 1M", "-c", "flush", l.uri("vm"))
	if err := os.Truncate(l.path("disk.img"), 8<<20); err != nil {
		t.Fatal(err)
	}
	for _, export := range []string{"vm", "vm@monday"} {
		run(t, "qemu-io", "-r", "-f", "raw", "-c", "read -P 0x11 0 8M", l.uri(export))
		refuse(t, "Input/output error", "qemu-io", "-r", "-f", "raw", "-c", "read 14M 64k", l.uri(export))
	}
	want(t, l.log.String(), "disk.img is shorter than when it was opened, 16777216 bytes: input/output error")
	l.kill()
	refuse(t, "the store is for an origin of 16777216 bytes and has chunks of 4096, expected 8388608 and 4096: the snapshot store does not fit",
		"strata", "info", fmt.Sprintf(`snapshots("%s", "%s")`, l.path("disk.img"), l.path("disk.snaps")))
	refuse(t, "disk.snaps: the store is for an origin of 16777216 bytes", "strata", "snapshot", "check", l.path("disk.img"), l.path("disk.snaps"))
	want(t, run(t, "strata", "snapshot", "check", l.path("disk.snaps")), "sound")
}
