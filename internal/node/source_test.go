package node

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/cluster"
	"github.com/strata-storage/strata/config"
	"github.com/strata-storage/strata/internal/copy"
	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/nbd"
	"github.com/strata-storage/strata/snapshot"
	"github.com/strata-storage/strata/source"
)

// evaluated opens what an expression says.
func evaluated(t *testing.T, format string, args ...any) block.Device {
	t.Helper()
	l := new(config.Loader)
	spec, err := l.Eval(t.Context(), fmt.Sprintf(format, args...))
	must(t, err)
	dev, err := spec.Open(t.Context())
	must(t, err)
	t.Cleanup(func() { _ = dev.Close() })
	return dev
}

// snapshotsOf opens an origin with its store.
func snapshotsOf(t *testing.T, expr string) *snapshot.Set {
	t.Helper()
	spec, err := new(config.Loader).Eval(t.Context(), expr)
	must(t, err)
	devices, closeAll, err := spec.OpenAll(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, closeAll()) })
	s, err := config.Snapshots(devices)
	must(t, err)
	return s
}

// Layers and snapshots stack on volumes, and copies keep holes.
func TestVolumeAsSource(t *testing.T) {
	t.Parallel()
	l := start(t)
	ctx := t.Context()
	address := strings.TrimSuffix(strings.TrimPrefix(l.uri, "nbd://"), "/")
	for _, name := range []string{"vm1", "vm2", "vm3"} {
		_, err := l.CreateVolume(ctx, VolumeSpec{Name: name, Size: 8 << 20})
		must(t, err)
	}
	vm1 := evaluated(t, `volume("vm1", cluster = %q)`, address)
	put(t, vm1, 1<<20, 1<<20, 1)
	l.snapshot(t, "vm1", "monday")
	put(t, vm1, 1<<20, 4096, 2)

	// A difference over a snapshot.
	cow := evaluated(t, `cow(volume("vm1", snapshot = "monday", cluster = %q), %q)`, address, filepath.Join(t.TempDir(), "vm1.cow"))
	put(t, cow, 2<<20, 4096, 3)
	same(t, cow, 1<<20, 1<<20, 1)
	same(t, cow, 2<<20, 4096, 3)
	same(t, vm1, 1<<20, 4096, 2)

	// Snapshots of another kind of a volume.
	s := snapshotsOf(t, fmt.Sprintf(`snapshots(volume("vm2", cluster = %q), mem("16M"))`, address))
	origin := s.Origin()
	put(t, origin, 0, 4096, 4)
	must(t, s.Create(ctx, "tuesday", snapshot.CreateOptions{}))
	put(t, origin, 0, 4096, 5)
	view, err := s.Open(ctx, "tuesday", snapshot.OpenOptions{})
	must(t, err)
	defer view.Close()
	same(t, view, 0, 4096, 4)
	same(t, origin, 0, 4096, 5)

	// From a volume to a volume.
	vm3 := evaluated(t, `volume("vm3", cluster = %q)`, address)
	must(t, copy.Devices(ctx, vm3, cow, copy.Options{}))
	same(t, vm3, 1<<20, 1<<20, 1)
	data := int64(0)
	for e, err := range vm3.Extents(ctx, block.Allocation, 0, 8<<20) {
		must(t, err)
		if e.Status&block.Hole == 0 {
			data += e.Len
		}
	}
	if data != 1<<20+4096 {
		t.Errorf("the copy has %d bytes of data", data)
	}
}

// same verifies that dev has what put has written.
func same(t *testing.T, dev block.Device, off int64, n int, seed uint64) {
	t.Helper()
	other := block.FromBytes(make([]byte, dev.Info().Size))
	put(t, other, off, n, seed)
	want, got := make([]byte, n), make([]byte, n)
	must(t, other.ReadAt(t.Context(), want, off, 0))
	must(t, dev.ReadAt(t.Context(), got, off, 0))
	if string(want) != string(got) {
		t.Errorf("the %d bytes at %d are not those of seed %d", n, off, seed)
	}
}

// A volume of three nodes is written while the node in use stops, and is what it should be.
func TestVolumeMovesBetweenNodes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	nodes := startThree(t)
	made, err := nodes[0].CreateVolume(ctx, VolumeSpec{Name: "vm1", Size: 8 << 20, ObjectSize: 64 << 10})
	must(t, err)
	if made.Copies != 3 {
		t.Errorf("the volume has %d copies, though three nodes had joined", made.Copies)
	}
	var addresses []string
	for _, l := range []*lab{nodes[1], nodes[2], nodes[0]} {
		addresses = append(addresses, strings.TrimSuffix(strings.TrimPrefix(l.uri, "nbd://"), "/"))
	}
	must(t, nodes[1].waitFor(ctx, "vm1"))
	must(t, nodes[2].waitFor(ctx, "vm1"))
	dev, err := source.Volume(ctx, source.VolumeOptions{Name: "vm1", Cluster: strings.Join(addresses, ",")})
	must(t, err)
	defer dev.Close()
	const part, writers = 32 << 10, 4
	var all sync.WaitGroup
	halfway := make(chan struct{}, writers)
	for w := range writers {
		all.Go(func() {
			p := make([]byte, part)
			for seed := range uint64(3) { // each place is written again and again
				for off := int64(w * part); off < 8<<20; off += writers * part {
					if seed == 1 && off > 4<<20 && off <= 4<<20+writers*part {
						halfway <- struct{}{}
					}
					blocktest.Fill(p, off, seed)
					if err := dev.WriteAt(ctx, p, off, 0); err != nil {
						t.Errorf("writing at %d: %v", off, err)
						return
					}
				}
			}
		})
	}
	<-halfway
	nodes[1].Node.Stop()
	all.Wait()
	must(t, dev.Flush(ctx))
	same(t, dev, 0, 8<<20, 2)
	if n := dev.(*nbd.Client).Losses(); n == 0 {
		t.Error("no connection was lost")
	}
}

// startThree starts a cluster of three nodes.
func startThree(t *testing.T) (nodes []*lab) {
	t.Helper()
	token, door := "", ""
	for range 3 {
		nodes = append(nodes, startWith(t, func(o *cluster.Options) {
			o.Listen, o.Lease = peer.FreeAddress(t), 2*time.Second
			if o.Join, o.Token = door, token; door != "" {
				return // only the first one votes: another one may stop at any time
			}
			o.Agreed, o.Votes, o.Door = peer.FreeAddress(t), peer.FreeAddress(t), peer.FreeAddress(t)
			door = o.Door
		}))
		if token == "" {
			x, err := nodes[0].Token(t.Context(), time.Minute, false)
			must(t, err)
			token = x.Token
		}
	}
	return nodes
}

// waitFor waits until a node has heard of a volume.
func (l *lab) waitFor(ctx context.Context, volume string) error {
	for {
		if _, ok := l.cluster.View().Head(volume); ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}
