package nbd

import (
	"fmt"
	"testing"

	"github.com/strata-storage/strata/block"
)

// manyContexts is a device with that many metadata contexts.
type manyContexts struct {
	block.Pass
	n int
}

func (d manyContexts) Info() block.Info {
	info := d.Pass.Info()
	for i := range d.n {
		info.Contexts = append(info.Contexts, fmt.Sprintf("test:%d", i))
	}
	return info
}

// TestManyContexts: a disk with a thousand snapshots has as many contexts. To
// list them is no error, and each can be had.
func TestManyContexts(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{100: 101, 1000: 1001, 3000: maxListedContexts} {
		dev := manyContexts{block.Pass{Device: block.FromBytes(make([]byte, 4096))}, n}
		d := toServer(t, &Server{Exports: Exports{{Name: "x", Device: dev}}})
		list, err := d.List(t.Context(), "nbd://host")
		if err != nil || len(list) != 1 || len(list[0].Contexts) != want {
			t.Errorf("%d contexts: listed %d exports, %v", n, len(list), err)
		}
		last := fmt.Sprintf("test:%d", n-1)
		d.Contexts = []string{last}
		c, err := d.Dial(t.Context(), "nbd://host/x")
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Info().Contexts; len(got) != 1 || got[0] != last {
			t.Errorf("the contexts are %q", got)
		}
		c.Close()
	}
}
