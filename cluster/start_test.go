package cluster

import (
	"errors"
	"fmt"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
)

// ends is an Ender that notes each end.
type ends chan error

func (e ends) Ended(err error, _ *block.Burst) { e <- err }

// A write that was begun, and fails as the attachment is lost, is carried out by the next
// one, and ends once. Where that must not be, or cannot, it fails. In any case nothing of
// it stays: later connections of the client do not wait for it, nor does closing.
func TestStartedWriteIsRepeated(t *testing.T) {
	t.Parallel()
	n := start(t, small(tempDir(t)))
	must(t, n.Create(t.Context(), "vm1", record.Spec{Size: 1 << 20}))
	reader := open(t, n, "vm1")
	lost := errors.New("what was flushed may be lost")
	cut := 0
	for i, test := range []struct {
		name      string
		end       func()
		meanwhile error // why no device may go on any more
		err       error
	}{
		{"repeated", nil, nil, nil},
		{"of an older connection", func() { cut++ }, nil, ErrMoved},
		{"of a volume that is lost", nil, lost, lost},
	} {
		session := Session{7, uint64(2 * i)}
		dev, err := n.OpenFor(t.Context(), "vm1", session, test.end)
		must(t, err)
		d := dev.(*device)
		fill(t, dev, 0, 4096, 0) // and the fence knows the client
		v := d.enterNow()
		if v == nil {
			t.Fatalf("a write %s does not begin", test.name)
		}
		p := make([]byte, 4096)
		blocktest.Fill(p, 0, 1)
		v.own.Abandon(fmt.Errorf("by the test: %w", replica.ErrFenced))
		d.hold.mu.Lock()
		d.hold.lost = test.meanwhile
		d.hold.mu.Unlock()
		told := make(ends, 2)
		var b block.Burst
		(&startedWrite{d, v, t.Context(), p, 0, told}).Ended(v.Err(), &b)
		if err := <-told; !errors.Is(err, test.err) {
			t.Errorf("a write %s ended with %v, expected %v", test.name, err, test.err)
		}
		later := Session{session.Client, session.Number + 1}
		must(t, d.hold.fence.enter(t.Context(), later))
		d.hold.fence.leave(later)
		must(t, dev.Close())
		if len(told) != 0 {
			t.Errorf("a write %s ended twice", test.name)
		}
		if test.meanwhile == nil {
			seed := uint64(1)
			if test.err != nil {
				seed = 0
			}
			check(t, reader, 0, 4096, seed)
		}
	}
	if cut != 1 {
		t.Errorf("a connection that was opened before was cut %d times", cut)
	}
}
