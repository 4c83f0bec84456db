package record

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
)

// The network is cut in the middle of transactions. Each is done once or not at
// all, the error says when nobody knows, and what is there is always whole.
func TestCutInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 1))
		server := memory.NewServer(memory.Options{})
		client, sound := server.Client(memory.ClientOptions{}), server.Client(memory.ClientOptions{})
		client.Delay(func() time.Duration { return time.Millisecond })
		cat := &Catalog{Store: client}
		if _, err := (&Catalog{Store: sound}).Create(t.Context(), "vm", Spec{Size: 1}); err != nil {
			t.Fatal(err)
		}
		unknown, undone := 0, 0
		for i := range 300 {
			before := server.Revision()
			requests := rng.IntN(2) == 0
			time.AfterFunc(time.Duration(rng.IntN(16_000))*time.Microsecond, func() { client.Cut(requests, !requests) })
			var err error
			switch rng.IntN(4) {
			case 0:
				_, err = cat.Snapshot(t.Context(), "vm", fmt.Sprint("s", i), 0)
			case 1:
				_, err = cat.Clone(t.Context(), "vm", fmt.Sprint("s", rng.IntN(i+1)), fmt.Sprint("v", i))
			case 2:
				_, err = cat.Rollback(t.Context(), "vm", fmt.Sprint("s", rng.IntN(i+1)), fmt.Sprint("k", i), 0)
			case 3:
				err = cat.DeleteSnapshot(t.Context(), "vm", fmt.Sprint("s", rng.IntN(i+1)))
			}
			time.Sleep(time.Second)
			client.Cut(false, false)
			time.Sleep(time.Minute)
			done := server.Revision() - before
			switch {
			case done > 1:
				t.Fatalf("%d transactions were done: %v", done, err)
			case err == nil && done != 1:
				t.Fatal("it returned, and was not done")
			case errors.Is(err, coord.ErrUnavailable) && done == 1:
				unknown++
			case errors.Is(err, coord.ErrUnavailable):
				undone++
			case err != nil && (done != 0 || !errors.Is(err, ErrNotFound)):
				t.Fatalf("%d transactions were done: %v", done, err)
			}
			entries, at, err := sound.List(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			v, err := load(entries, at, nil)
			if err != nil {
				t.Fatal(err)
			}
			whole(t, v)
		}
		if unknown == 0 || undone == 0 {
			t.Errorf("%d were done and %d not, where nobody knew", unknown, undone)
		}
	})
}

// whole checks that records fit to each other.
func whole(t *testing.T, v *View) {
	t.Helper()
	alive := map[Line]bool{}
	for name := range v.Names.All() {
		h, _ := v.Head(name)
		f, _ := v.Families.Get(h.Line().Family)
		tree, err := f.Tree()
		if err != nil {
			t.Fatal(err)
		}
		if !tree.Leaf(h.Name.Record.Head) || h.Name.Record.Head >= f.Volume.Record.NextVersion {
			t.Fatalf("the head of %s cannot be written: %+v", name, h)
		}
		alive[Line{f.ID, h.Name.Record.Head}] = true
		n := 0
		for _, version := range v.Snapshots(h.Line()) {
			alive[Line{f.ID, version.ID}] = true
			n++
		}
		if n != h.Name.Record.Snapshots {
			t.Fatalf("%s has %d snapshots, and says %d", name, n, h.Name.Record.Snapshots)
		}
	}
	for _, f := range v.Families.All() {
		for id, version := range f.Versions.All() {
			if version.Doomed == alive[Line{f.ID, id}] {
				t.Fatalf("version %+v of family %d is in use: %v", version, f.ID, alive[Line{f.ID, id}])
			}
		}
	}
	if v.Bad.Len() > 0 {
		t.Fatal("there are bad records")
	}
}
