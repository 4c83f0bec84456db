package nbd

import (
	"bytes"
	"errors"
	"testing"

	"github.com/strata-storage/strata/block"
)

// slowZero is a device that cannot zero fast.
type slowZero struct{ block.Pass }

func (d slowZero) Info() block.Info {
	info := d.Device.Info()
	info.FastZeros = false
	return info
}

// FAST_ZERO that was not offered is invalid, and changes nothing; a client that
// knows the flags does not ask.
func TestFastZeroNotOffered(t *testing.T) {
	t.Parallel()
	disk := bytes.Repeat([]byte{7}, 8192)
	server := func() *Server {
		return &Server{Exports: Exports{{Device: slowZero{block.Pass{Device: block.FromBytes(disk)}}}}}
	}
	eachMode(t, server, func(t *testing.T, p *rawPeer, structured bool) {
		p.send(cmdWriteZeroes, cmdFlagFastZero, 5, 0, 4096, nil)
		if p.extended {
			c := p.chunks(5)[0]
			const want = "WRITE_ZEROES with flags 0x10, which are not allowed"
			if c.code() != wireEINVAL || string(c.data[6:]) != want {
				t.Errorf("error %d %q, want %q", c.code(), c.data[6:], want)
			}
		} else if code := p.outcome(structured, cmdWriteZeroes, 5, 0); code != wireEINVAL {
			t.Errorf("error %d", code)
		}
		p.alive()
	})
	c := dialTest(t, toServer(t, server()), "nbd:///")
	if err := c.Zero(t.Context(), 0, 4096, block.FastZero); !errors.Is(err, block.ErrNotSupported) {
		t.Errorf("the client: %v", err)
	}
	if block.IsZero(disk[:1]) {
		t.Error("the disk has changed")
	}
}
