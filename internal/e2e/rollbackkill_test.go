package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/strata-storage/strata/internal/daemon"
)

// The server is killed while a rollback moves data home, twice, at points that
// its own list tells. Whoever reads sees the snapshot at once each time, what
// was written since stays, and the rollback goes on where it was to its end.
func TestRollbackIsKilled(t *testing.T) {
	t.Parallel()
	// Each write to the origin takes so long that a rollback cannot end before
	// the server is killed: some seconds for each twentieth of it.
	for kind, slow := range map[string]string{"ranged": "1s", "bitmap": "250ms"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			const size = 16 << 20
			dir := t.TempDir()
			run(t, "truncate", "-s", fmt.Sprint(size), dir+"/disk.img")
			l := &snapLab{t: t, dir: dir, control: shortDir(t) + "/c"}
			serveOn := func(origin, args string) {
				l.args = []string{"--control", l.control, fmt.Sprintf(`vm=snapshots(%s, "disk.snaps", kind="%s"%s)`, origin, kind, args)}
				l.again()
			}
			// What is home has to be brought home by the rollback.
			serveOn(`"disk.img"`, `, policy="copyout"`)
			io := func(commands ...string) {
				t.Helper()
				args := []string{"-f", "raw"}
				for _, c := range commands {
					args = append(args, "-c", c)
				}
				run(t, "qemu-io", append(args, l.uri("vm"))...)
			}
			io("write -P 0x11 0 16M", "flush")
			l.snapshot("create", "vm", "monday")
			io("write -P 0x22 0 12M", "flush")
			l.snapshot("create", "vm", "tuesday")
			io("write -P 0x33 4M 12M", "flush")
			l.kill()

			serveOn(`delay("disk.img", write="`+slow+`")`, "")
			l.snapshot("rollback", "vm", "monday")
			before := l.rollingBack(0.05)
			io("write -P 0x44 15M 64k", "flush")
			for range 2 {
				l.kill()
				want(t, run(t, "strata", "snapshot", "check", l.path("disk.img"), l.path("disk.snaps")), "sound")
				l.again()
				// The list tells of no less than before: what was merged is.
				before = l.rollingBack(before)
				io("read -P 0x11 0 15M", "read -P 0x44 15M 64k", "read -P 0x11 15424k 960k")
				before = l.rollingBack(before + 0.05)
			}
			refuse(t, "rollback has ended", "strata", "snapshot", "create", "--control", l.control, "vm", "wednesday")
			l.kill()
			serveOn(`"disk.img"`, "")
			until(t, "the end of the rollback", func() bool { return l.list().Status.RollingBack == "" })
			l.snapshot("create", "vm", "wednesday")
			io("read -P 0x11 0 15M", "read -P 0x44 15M 64k", "read -P 0x11 15424k 960k")
			run(t, "qemu-io", "-r", "-f", "raw", "-c", "read -P 0x11 0 16M", l.uri("vm@monday"))
			run(t, "qemu-io", "-r", "-f", "raw", "-c", "read -P 0x22 0 12M", "-c", "read -P 0x11 12M 4M", l.uri("vm@tuesday"))
			want(t, l.snapshot("check", "vm"), "vm: sound")
			l.kill()
			want(t, run(t, "strata", "snapshot", "check", l.path("disk.img"), l.path("disk.snaps")), "sound")
			home, err := os.ReadFile(l.path("disk.img"))
			if err != nil || home[0] != 0x11 || home[8<<20] != 0x11 || home[15<<20] != 0x44 {
				t.Errorf("the disk has not come home: %v", err)
			}
		})
	}
}

// list is what snapshot ls --json says.
func (l *snapLab) list() (list daemon.SnapshotList) {
	l.t.Helper()
	if err := json.Unmarshal([]byte(l.snapshot("ls", "--json", "vm")), &list); err != nil {
		l.t.Fatal(err)
	}
	return list
}

// rollingBack waits until a rollback to monday that has not ended is done to
// that part, and returns to which it is.
func (l *snapLab) rollingBack(part float64) float64 {
	l.t.Helper()
	var s daemon.SnapshotStatus
	until(l.t, "the rollback to move on", func() bool {
		s = l.list().Status
		if s.RollingBack != "monday" {
			l.t.Fatalf("there is no rollback any more: %+v", s)
		}
		return s.RollbackDone >= part
	})
	return s.RollbackDone
}
