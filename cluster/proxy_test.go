package cluster

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/record"
)

// A trench is between nodes that do not hear each other any more.
type trench struct {
	mu    sync.Mutex
	nodes []*Node
	cut   [2]*Node
	conns []*stretched
}

// stretched is a connection of a node to an address.
type stretched struct {
	net.Conn
	from int
	to   string
}

// crosses reports whether a connection is between those that are cut off from each other.
func (x *trench) crosses(c *stretched) bool {
	for i, n := range x.cut {
		if n != nil && x.nodes[c.from] == n && x.cut[1-i].listener.Addr().String() == c.to {
			return true
		}
	}
	return false
}

// dial is that of a node.
func (x *trench) dial(a int) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		s := &stretched{c, a, addr}
		if x.crosses(s) {
			return nil, errors.Join(errors.New("a trench"), c.Close())
		}
		x.conns = append(x.conns, s)
		return s, nil
	}
}

// dig cuts two nodes off from each other.
func (x *trench) dig(a, b int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cut = [2]*Node{x.nodes[a], x.nodes[b]}
	for _, c := range x.conns {
		if x.crosses(c) {
			c.Close()
		}
	}
}

// Two gateways that do not hear each other cannot both have the same disks: one of them
// has its volume served by a node that both hear.
func TestTrench(t *testing.T) {
	t.Parallel()
	x := new(trench)
	x.nodes = severalWith(t, 3, func(i int, o *Options) { o.dial = x.dial(i) })
	var devs []block.Device
	for i, name := range []string{1: "vm1", 2: "vm2"} {
		if name != "" {
			must(t, x.nodes[i].Create(t.Context(), name, record.Spec{Size: 2 << 20, ObjectSize: record.MinObjectSize, Copies: 3}))
			devs = append(devs, open(t, x.nodes[i], name))
		}
	}
	for i, dev := range devs {
		fill(t, dev, 0, 1<<20, uint64(1+i))
	}
	x.dig(1, 2)
	var both sync.WaitGroup
	for i, dev := range devs {
		both.Go(func() {
			for k := range uint64(40) {
				if err := write(dev, 0, 1<<20, 10*k+uint64(i)); err != nil {
					t.Errorf("volume %d: %v", i, err)
				}
			}
		})
	}
	both.Wait()
	for i, dev := range devs {
		check(t, dev, 0, 1<<20, 390+uint64(i))
		must(t, dev.Flush(t.Context()))
	}
	// Who loses the connection by that comes again, and need not wait again.
	adopted := 0
	for i, name := range []string{"vm1", "vm2"} {
		n := x.nodes[1+i]
		a := holdFor(t, n, name).active.Load()
		if !a.adopted {
			continue
		}
		adopted++
		must(t, devs[i].Close())
		devs[i] = open(t, n, name)
		if holdFor(t, n, name).active.Load() != a {
			t.Errorf("%s is attached anew", name)
		}
	}
	if adopted == 0 {
		t.Error("both have what they need")
	}
	// Somebody comes to a node that does not hear the one that serves the volume.
	must(t, x.nodes[1].seenAll(t.Context(), nil))
	other := open(t, x.nodes[1], "vm2")
	check(t, other, 0, 1<<20, 391)
	must(t, x.nodes[1].Snapshot(t.Context(), "vm2", "monday"))
	must(t, write(other, 0, 1<<20, 1000))
	check(t, devs[1], 0, 1<<20, 1000)
}
