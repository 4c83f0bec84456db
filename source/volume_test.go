package source_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/internal/exportname"
	"github.com/strata-storage/strata/nbd"
	"github.com/strata-storage/strata/source"
)

// cluster is a resolver as the nodes of a cluster have it.
type cluster struct {
	dev     block.Device
	mu      sync.Mutex
	numbers []uint64 // of the connections of the client
}

func (c *cluster) Resolve(_ context.Context, r *nbd.ExportRequest) (*nbd.Export, error) {
	volume, client, number, err := exportname.Parse(r.Name)
	if err != nil || volume != "vm1" && volume != "vm1@monday" {
		return nil, nbd.ErrNotFound
	}
	x := &nbd.Export{Name: r.Name, Device: block.Keep(c.dev)}
	if client != 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.numbers = append(c.numbers, number)
	}
	return x, nil
}

func (c *cluster) List(context.Context, *nbd.Peer) ([]*nbd.Export, error) { return nil, nil }

// node serves a cluster until stop is called.
func node(t testing.TB, c *cluster) (address string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, done := &nbd.Server{Exports: c}, make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(l)
	}()
	stop = sync.OnceFunc(func() { s.Close(); <-done })
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func TestVolumeConformance(t *testing.T) {
	t.Parallel()
	blocktest.Run(t, func(t testing.TB) block.Device {
		address, _ := node(t, &cluster{dev: mustMem(t, mib)})
		d, err := source.Volume(context.Background(), source.VolumeOptions{Name: "vm1", Cluster: address})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}, blocktest.Seeds(1))
}

// When a node dies the next one is used, as a later connection of the same client.
func TestVolumeMoves(t *testing.T) {
	t.Parallel()
	c := &cluster{dev: mustMem(t, mib)}
	a, stop := node(t, c)
	b, _ := node(t, c)
	d, err := source.Volume(t.Context(), source.VolumeOptions{Name: "vm1", Cluster: a + ", " + b})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.WriteAt(t.Context(), []byte("before"), 0, 0); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := d.WriteAt(t.Context(), []byte("after"), 1000, 0); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.numbers; n[0] != 1 || n[len(n)-1] <= 1 {
		t.Errorf("the connections have the numbers %v", n)
	}
}

func TestVolumeRefused(t *testing.T) {
	t.Parallel()
	address, _ := node(t, &cluster{dev: mustMem(t, mib)})
	for _, x := range []struct {
		o    source.VolumeOptions
		want string
	}{
		{source.VolumeOptions{Name: "vm2", Cluster: address}, "the server has no export"},
		{source.VolumeOptions{Name: "vm1@monday", Cluster: address}, `volume("vm1", snapshot = "monday")`},
		{source.VolumeOptions{Name: "vm1", Cluster: "a b:1:2"}, `the address "a b:1:2"`},
		{source.VolumeOptions{Name: "vm1", Cluster: address, TLSCA: "x"}, "without tls = True"},
		{source.VolumeOptions{Name: "vm1", Cluster: address, TLS: true}, "does not offer TLS"},
		{source.VolumeOptions{Name: "vm1", Cluster: address, TLS: true, TLSCA: "/none/ca.pem"}, "/none/ca.pem"},
	} {
		d, err := source.Volume(t.Context(), x.o)
		if err == nil {
			d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v: %v, want %q", x.o, err, x.want)
		}
	}
	d, err := source.Volume(t.Context(), source.VolumeOptions{Name: "vm1", Snapshot: "monday", Cluster: address})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
}
