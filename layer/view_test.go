package layer

import (
	"context"
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
)

// twins is a device with one view.
type twins struct {
	block.Pass
	twin block.Device
}

func (d twins) Views(context.Context) ([]string, error) { return []string{"twin"}, nil }

func (d twins) View(_ context.Context, name string, _ bool) (block.View, error) {
	if name != "twin" {
		return block.View{}, block.ErrNoView
	}
	return block.View{Device: d.twin, ID: "1"}, nil
}

func newTwins(n int64) twins {
	return twins{block.Pass{Device: block.FromBytes(make([]byte, n))}, block.FromBytes(make([]byte, n))}
}

func TestViewConformance(t *testing.T) {
	t.Parallel()
	conform(t, func(t testing.TB) block.Device {
		v, err := View(newTwins(140_000), ViewOptions{Name: "twin"})
		if err != nil {
			t.Fatal(err)
		}
		return v
	})
}

// TestView: it is the view and not the device, is found through Keep, and
// closes both.
func TestView(t *testing.T) {
	t.Parallel()
	d := newTwins(4096)
	v, err := View(block.Keep(d), ViewOptions{Name: "twin"})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.twin.WriteAt(t.Context(), []byte("x"), 0, 0); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 1)
	if err := v.ReadAt(t.Context(), p, 0, 0); err != nil || p[0] != 'x' {
		t.Errorf("the view has %q, %v", p, err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.twin.Flush(t.Context()); !errors.Is(err, block.ErrClosed) {
		t.Errorf("the view was left open: %v", err)
	}
	if err := d.Flush(t.Context()); err != nil {
		t.Errorf("what is kept was closed: %v", err)
	}
	if v, err = View(newTwins(4096), ViewOptions{Name: "twin"}); err != nil || v.Close() != nil {
		t.Error(err)
	}
	for dev, want := range map[block.Device]string{
		block.FromBytes(nil): "view: the device has no views, snapshots for one: invalid argument",
		newTwins(1):          "view: no such view",
	} {
		if _, err := View(dev, ViewOptions{Name: "other"}); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
