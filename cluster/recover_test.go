package cluster

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/strata-storage/strata/cluster/record"
)

// When most voters are lost, the cluster goes on with what one of them knows, by one
// command, and those that were not lost after all take part again.
func TestRecoverQuorum(t *testing.T) {
	t.Parallel()
	for name, running := range map[string]bool{"running": true, "stopped": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := several(t, 4)
			names := electorate(t, nodes[0], 3)
			votes := func(n *Node) bool { return slices.Contains(names, n.ID()) }
			// The last one does not vote, and is only to find the others again.
			slices.SortStableFunc(nodes, func(a, b *Node) int {
				switch {
				case votes(a) == votes(b):
					return 0
				case votes(a):
					return -1
				}
				return 1
			})
			a, other := nodes[0], nodes[3]
			must(t, a.Create(t.Context(), "vm1", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
			if _, err := a.RecoverQuorum(t.Context(), true); !errors.Is(err, ErrQuorum) {
				t.Errorf("recovered what is well: %v", err)
			}
			if _, err := other.RecoverQuorum(t.Context(), true); err == nil || !strings.Contains(err.Error(), "does not vote: do it on one of those at") {
				t.Errorf("recovered from one that knows nothing: %v", err)
			}
			nodes[1].crash()
			nodes[2].crash()
			var texts []string
			var err error
			if running {
				for a.voting.seat.Well() {
					a.pause(t.Context(), votePause/10)
				}
				texts, err = a.RecoverQuorum(t.Context(), true)
			} else {
				a.crash()
				if _, err := RecoverQuorum(t.Context(), small(tempDir(t)), true); err == nil || !strings.Contains(err.Error(), "there is no node in it") {
					t.Errorf("recovered from nothing: %v", err)
				}
				texts, err = RecoverQuorum(t.Context(), a.o, true)
				a = start(t, a.o)
			}
			must(t, err)
			if len(texts) != 3 || !strings.Contains(texts[0], a.ID()) {
				t.Errorf("it says %q", texts)
			}
			must(t, a.Create(t.Context(), "vm2", record.Spec{Size: 16 << 20, ObjectSize: record.MinObjectSize}))
			awaits(t, other, "the other one has heard of it", func(v *record.View) bool { _, ok := v.Head("vm2"); return ok })
			// One that is back gives up what it knew, and there are three voters again.
			back := start(t, nodes[1].o)
			must(t, back.seenAll(t.Context(), nil))
			if _, ok := back.View().Head("vm2"); !ok {
				t.Error("the one that is back does not know of what is agreed on")
			}
			electorate(t, a, 3)
		})
	}
}

// Looking for a node does not make a data directory.
func TestRecoverNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := RecoverQuorum(t.Context(), small(dir), true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is nothing to recover: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
}
