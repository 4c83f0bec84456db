package config

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/nbd"
)

func tcpPeer(addr string) *nbd.Peer {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		panic(err)
	}
	return &nbd.Peer{Addr: a}
}

// TestConnectionsKeepDevices: a retired export's device is closed when its
// last connection has ended, and not before.
func TestConnectionsKeepDevices(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	lab, loader := newLab()
	s := &Set{}
	mustApply(t, s, mustLoad(t, loader, `export("a", "f"); export("b", "g")`))
	req := &nbd.ExportRequest{Name: "a", Peer: tcpPeer("10.0.0.1:5")}
	one, err := s.Resolve(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.Resolve(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	lab.take()
	retired := mustApply(t, s, mustLoad(t, loader, `export("b", "g")`))
	if len(retired) != 1 || !retired[0].Owns(one) || !retired[0].Owns(two) {
		t.Fatalf("retired %v", retired)
	}
	if _, err := s.Resolve(ctx, &nbd.ExportRequest{Name: "a", Peer: req.Peer}); !errors.Is(err, nbd.ErrNotFound) {
		t.Errorf("a retired export: %v", err)
	}
	one.Release()
	one.Release() // counts once
	if err := two.Device.ReadAt(ctx, make([]byte, 1), 0, 0); err != nil || lab.take() != "" {
		t.Errorf("the device of a connection that goes on: %v", err)
	}
	cancelled, cancel := context.WithCancelCause(ctx)
	cancel(os.ErrDeadlineExceeded)
	if err := retired[0].Wait(cancelled); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Wait: %v", err)
	}
	two.Release()
	if err := retired[0].Wait(ctx); err != nil {
		t.Error(err)
	}
	if got := lab.take(); got != "close /conf/f" {
		t.Error(got)
	}
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
	if _, err := s.Apply(ctx, &Config{}); !errors.Is(err, block.ErrClosed) {
		t.Errorf("Apply after Close: %v", err)
	}
}

// TestReopenWaitsForClose: a device that is being closed is opened again only
// after that, because it may hold a lock.
func TestReopenWaitsForClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		r := &Registry{}
		open := 0
		AddSource(r, "file", func(context.Context, testFile) (block.Device, error) {
			if open++; open > 1 {
				t.Error("opened while it is open")
			}
			return slowClose{block.Pass{Device: block.FromBytes(make([]byte, 512))}, hold, &open}, nil
		})
		loader := &Loader{Registry: r}
		s := &Set{}
		mustApply(t, s, mustLoad(t, loader, `export("a", "f")`))
		x, err := s.Resolve(t.Context(), &nbd.ExportRequest{Name: "a", Peer: tcpPeer("10.0.0.1:5")})
		if err != nil {
			t.Fatal(err)
		}
		mustApply(t, s, mustLoad(t, loader, ``))
		with := mustLoad(t, loader, `export("a", "f")`)
		go x.Release()
		synctest.Wait()
		done := make(chan error)
		go func() {
			_, err := s.Apply(t.Context(), with)
			done <- err
		}()
		synctest.Wait()
		select {
		case <-done:
			t.Error("applied while the old device is being closed")
		default:
		}
		close(hold)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

type slowClose struct {
	block.Pass
	hold chan struct{}
	open *int
}

func (d slowClose) Close() error {
	<-d.hold
	*d.open--
	return d.Device.Close()
}
