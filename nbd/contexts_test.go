package nbd

import (
	"fmt"
	"slices"
	"strings"
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

// An export has contexts that it does not name: whoever asks for one by its whole name
// has it, also where it is listed, and a namespace does not have them in it.
func TestHiddenContexts(t *testing.T) {
	t.Parallel()
	x := &Export{
		Name: "x", Device: manyContexts{block.Pass{Device: block.FromBytes(make([]byte, 4096))}, 2},
		HasContext: func(name string) bool {
			return strings.HasPrefix(name, "test:") && name != "test:" && name != "test:no"
		},
	}
	d := toServer(t, &Server{Exports: Exports{x}})
	list, err := d.List(t.Context(), "nbd://host")
	if err != nil || len(list) != 1 || !slices.Equal(list[0].Contexts, []string{block.Allocation, "test:0", "test:1"}) {
		t.Errorf("listed %+v, %v", list, err)
	}
	d.Contexts = []string{"test:77", "test:1", "test:", "test:no", "other:1", "test:5", "test:77"}
	c, err := d.Dial(t.Context(), "nbd://host/x")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// In the order in which the server tells them.
	if got, want := c.Info().Contexts, []string{"test:1", "test:77", "test:5"}; !slices.Equal(got, want) {
		t.Errorf("the contexts are %q, expected %q", got, want)
	}
}

// TestTooManyHiddenContexts: a client cannot have any number of them.
func TestTooManyHiddenContexts(t *testing.T) {
	t.Parallel()
	has := func(string) bool { return true }
	s := &session{export: &Export{HasContext: has}}
	var queries []string
	for i := range maxHidden {
		queries = append(queries, fmt.Sprint("test:", i), "test:0")
	}
	if list, err := s.hidden(nil, queries); err != nil || len(list) != maxHidden {
		t.Errorf("%d contexts, %v", len(list), err)
	}
	if _, err := s.hidden(nil, append(queries, "test:more")); err == nil {
		t.Error("there are more than allowed")
	}
}
