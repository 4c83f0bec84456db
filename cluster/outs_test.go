package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
	"github.com/strata-storage/strata/cluster/record"
)

// alone has records and nothing else of a node.
func alone(t *testing.T, log *bytes.Buffer) *Node {
	t.Helper()
	n := &Node{outs: newOuts(), store: memory.NewServer(memory.Options{}).Client(memory.ClientOptions{})}
	n.o.Log = slog.New(slog.NewTextHandler(log, nil))
	var err error
	n.state, err = record.Follow(t.Context(), n.store)
	must(t, err)
	t.Cleanup(func() { n.state.Close() })
	return n
}

// puts makes records, and waits until the node knows.
func (n *Node) puts(t *testing.T, list map[string]record.Record) *record.View {
	t.Helper()
	var txn coord.Txn
	for key, r := range list {
		value, err := record.Encode(key, r)
		must(t, err)
		txn.Then = append(txn.Then, coord.Put(key, value))
	}
	r, err := n.store.Txn(t.Context(), txn)
	must(t, err)
	v, err := n.state.Wait(t.Context(), r.Revision)
	must(t, err)
	return v
}

// An operator is told once of a disk that is removed from a great many groups, of which
// node it is and why, and once when it is back for good.
func TestOuts(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	n := alone(t, &log)
	const disk, groups = "d1", 32
	record1 := func(members ...string) (g record.Group) {
		for _, m := range members {
			g.Members = append(g.Members, record.Member{Disk: m, Incarnation: "1"})
		}
		return g
	}
	n.puts(t, map[string]record.Record{
		record.PoolKey:       record.Pool{Cluster: fmt.Sprintf("%032x", 1), Format: record.Format, Groups: groups},
		record.NodeKey("n1"): record.Node{ID: "n1", Name: "rack7", Zone: "n1"},
		record.DiskKey(disk): record.Disk{ID: disk, Node: "n1", Weight: 1},
	})
	all := func(g record.Group) *record.View {
		list := map[string]record.Record{}
		for i := range groups {
			list[record.GroupKey(record.GroupOf(3, i))] = g
		}
		return n.puts(t, list)
	}
	remove := func() {
		for i := range groups {
			for range 3 {
				n.removed(record.GroupOf(3, i), record.Member{Disk: disk, Incarnation: "1"}, errors.New("it says nothing"))
			}
		}
	}
	lines := func(what string, want ...string) {
		t.Helper()
		got := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
		if log.Len() == 0 {
			got = nil
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d lines, expected %d:\n%s", what, len(got), len(want), log.String())
			return
		}
		for i, words := range want {
			for word := range strings.FieldsSeq(words) {
				if !strings.Contains(got[i], word) {
					t.Errorf("%s: nothing of %s in %s", what, word, got[i])
				}
			}
		}
		log.Reset()
	}
	out, in := all(record1("d0", "d2")), time.Second
	remove()
	if !n.tellOuts(out, in) {
		t.Error("nobody is out")
	}
	lines("removed", "level=WARN disk=d1 node=rack7 groups=32 says")
	remove()
	n.tellOuts(out, 2*time.Second)
	back := all(record1("d0", "d2", disk))
	n.tellOuts(back, 3*time.Second)
	remove()
	n.tellOuts(out, 4*time.Second)
	n.tellOuts(back, 5*time.Second)
	n.tellOuts(back, 5*time.Second+calmOuts/2)
	lines("it comes and goes")
	if n.tellOuts(back, 5*time.Second+calmOuts) {
		t.Error("it is still out")
	}
	lines("back", "level=INFO disk=d1 groups=32 after")
	// Another one has taken its place, or it is of the cluster no more.
	remove()
	n.tellOuts(out, time.Minute)
	lines("again", "level=WARN")
	moved := all(record1("d0", "d2", "d3"))
	n.tellOuts(moved, 2*time.Minute)
	if n.tellOuts(moved, 3*time.Minute) {
		t.Error("it is still out though nobody misses it")
	}
	lines("moved", "level=INFO")
	remove()
	r, err := n.store.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.Delete(record.DiskKey(disk))}})
	must(t, err)
	gone, err := n.state.Wait(t.Context(), r.Revision)
	must(t, err)
	if n.tellOuts(gone, 4*time.Minute) {
		t.Error("it is still out though it was forgotten")
	}
	lines("forgotten", "level=WARN")
}
