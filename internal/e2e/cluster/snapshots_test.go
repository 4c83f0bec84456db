package cluster

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/internal/race"
	"github.com/strata-storage/strata/nbd"
)

// A volume has ten thousand snapshots, which cost the same from the first to the last,
// and all can be read.
func TestTenThousandSnapshots(t *testing.T) {
	t.Parallel()
	const step = 500
	count := 10_000
	if race.Enabled {
		count = 2_000 // which take as long
	}
	l := newLab(t, 3)
	l.nodes[1].order("create", "vm1", "64M")
	c := l.open("vm1", 1)
	before := l.memory()
	var took []time.Duration
	for from := 0; from < count; from += step {
		must(t, c.WriteAt(t.Context(), mark(from), int64(from/step)*4096, 0))
		var series []time.Duration
		must(t, l.nodes[1].call("Snapshots", Series{"vm1", from, step}, &series))
		took = append(took, series...)
	}
	median := func(d []time.Duration) time.Duration {
		d = slices.Sorted(slices.Values(d))
		return d[len(d)/2].Round(10 * time.Microsecond)
	}
	first, last := median(took[:step]), median(took[count-step:])
	t.Logf("a snapshot takes %v among the first %d, %v among the last; memory of the nodes %v MiB before, %v after", first, step, last, before, l.memory())
	if last > 4*first+20*time.Millisecond {
		t.Errorf("a snapshot takes %v when there are many, %v when there are few", last, first)
	}
	began := time.Now()
	until(t, "all snapshots to be listed", func() bool {
		began = time.Now()
		v, err := l.nodes[2].control().Volume(t.Context(), "vm1")
		return err == nil && len(v.SnapshotList) == count
	})
	t.Logf("asking for the volume takes %v", time.Since(began).Round(time.Millisecond))
	l.list(1, count+1)
	l.nodes[0].order("clone", "vm1", fmt.Sprint("s", count-1), "vm2")
	for _, x := range []struct {
		export string
		marks  int
	}{{"vm2", count / step}, {"vm1@s0", 1}, {fmt.Sprintf("vm1@s%d", count/2), count/step/2 + 1}} {
		began := time.Now()
		d := l.open(x.export, 0)
		p := make([]byte, 4096)
		for i := range count / step {
			must(t, d.ReadAt(t.Context(), p, int64(i)*4096, 0))
			if got := binary.LittleEndian.Uint64(p); (i < x.marks) != (got == uint64(i*step+1)) || i >= x.marks && got != 0 {
				t.Errorf("%s: block %d has %d", x.export, i, got)
			}
		}
		t.Logf("%s is opened and read in %v", x.export, time.Since(began).Round(time.Millisecond))
		must(t, d.Close())
	}
	must(t, c.Flush(t.Context()))
	must(t, c.Close())
	began = time.Now()
	for _, n := range l.nodes {
		n.kill()
	}
	for _, n := range l.nodes {
		n.begin()
	}
	for _, n := range l.nodes {
		n.ready()
	}
	must(t, l.open("vm1", 2).Close())
	t.Logf("the volume can be opened %v after the start of all nodes", time.Since(began).Round(time.Millisecond))
	l.finish()
}

// list lists the exports of a node, which are so many, with all that is told of each.
func (l *lab) list(node, count int) {
	l.t.Helper()
	uri := "nbd+unix:///?socket=" + filepath.Join(l.nodes[node].sockets, "nbd")
	began := time.Now()
	list, err := nbd.List(l.t.Context(), uri)
	must(l.t, err)
	if len(list) != count {
		l.t.Errorf("%d exports are listed, expected %d", len(list), count)
	}
	l.t.Logf("listing %d exports takes %v", len(list), time.Since(began).Round(time.Millisecond))
	began = time.Now()
	if got := strings.Count(run(l.t, "nbdinfo", "--list", uri), "export-size:"); got != count {
		l.t.Errorf("nbdinfo lists %d exports, expected %d", got, count)
	}
	l.t.Logf("nbdinfo takes %v", time.Since(began).Round(time.Millisecond))
}

// mark is a block with a number.
func mark(number int) []byte {
	p := make([]byte, 4096)
	binary.LittleEndian.PutUint64(p, uint64(number+1))
	return p
}

// memory is that of the nodes, in MiB.
func (l *lab) memory() (list []int) {
	l.t.Helper()
	for _, n := range l.nodes {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
		must(l.t, err)
		m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(text)
		if m == nil {
			l.t.Fatalf("no VmRSS in %s", text)
		}
		kib, err := strconv.Atoi(string(m[1]))
		must(l.t, err)
		list = append(list, kib>>10)
	}
	return list
}
