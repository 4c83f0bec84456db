package nbd

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
)

// A starter begins some of its writes, of which some end at once, some at the end of the
// burst, and others later.
type starter struct {
	block.Device
	n, begun atomic.Int64
}

func (s *starter) StartWrite(ctx context.Context, p []byte, off int64, flags block.Flags, b *block.Burst, e block.Ender) bool {
	switch s.n.Add(1) % 4 {
	case 0:
		return false
	case 1:
		e.Ended(s.WriteAt(ctx, p, off, flags), b)
	case 2:
		b.Later(func() { e.Ended(s.WriteAt(ctx, p, off, flags), b) })
	default:
		go func() {
			var b block.Burst
			e.Ended(s.WriteAt(ctx, p, off, flags), &b)
			b.End()
		}()
	}
	s.begun.Add(1)
	return true
}

// A device that begins writes is served like any other, with TLS and without.
func TestStarter(t *testing.T) {
	t.Parallel()
	tlsConfig, files := labTLS(t)
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var begun atomic.Int64
			blocktest.Run(t, func(t testing.TB) block.Device {
				dev := &starter{Device: workerDevice(block.FromBytes(make([]byte, 1<<20)))}
				t.Cleanup(func() { begun.Add(dev.begun.Load()) })
				s := &Server{Exports: Exports{{Name: "vm", Device: dev}}}
				uri := "nbd:///vm"
				if secure {
					s.TLS, s.TLSConfig = TLSRequired, tlsConfig
					uri = "nbds:///vm?tls-certificates=" + files
				}
				return dialTest(t, toServer(t, s), uri)
			})
			if begun.Load() == 0 {
				t.Error("no write was begun")
			}
		})
	}
}
