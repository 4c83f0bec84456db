package nbd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/internal/race"
)

// toServer returns a Dialer whose connections, socket pairs, go to s.
func toServer(t testing.TB, s *Server) *Dialer {
	t.Cleanup(func() { s.Close() })
	return &Dialer{Connect: func(context.Context) (net.Conn, error) {
		mine, theirs := socketPair(t)
		go s.ServeConn(context.Background(), theirs)
		return mine, nil
	}}
}

func memExport(size int) Exports {
	return Exports{{Name: "vm", Description: "a test", Device: block.FromBytes(make([]byte, size))}}
}

// Client and server prove each other in every combination, and extended
// headers, which few others speak, in particular.
func TestClientConformsOverServer(t *testing.T) {
	t.Parallel()
	for _, replies := range []Replies{SimpleReplies, StructuredReplies, ExtendedReplies} {
		for _, conns := range []int{1, 4} {
			for _, secure := range []bool{false, true} {
				// Every value is enough for the slow race detector.
				if race.Enabled && (conns == 1) != (replies == StructuredReplies) || race.Enabled && secure != (replies != SimpleReplies) {
					continue
				}
				name := fmt.Sprintf("%v,%d,tls=%v", replies, conns, secure)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					tlsConfig, files := labTLS(t)
					blocktest.Run(t, func(t testing.TB) block.Device {
						s := &Server{Exports: memExport(1 << 20)}
						uri := "nbd:///vm"
						if secure {
							s.TLS, s.TLSConfig = TLSRequired, tlsConfig
							uri = "nbds:///vm?tls-certificates=" + files
						}
						d := toServer(t, s)
						d.Replies, d.Conns = replies, conns
						c := dialTest(t, d, uri)
						if e := c.Export(); e.Replies != replies || c.Conns() != conns || secure != (e.TLS != "") {
							t.Errorf("%d connections with %+v", c.Conns(), e)
						}
						return c
					}, blocktest.Seeds(1))
				})
			}
		}
	}
}

func TestClientExportAndList(t *testing.T) {
	t.Parallel()
	var exports Exports
	for i := range 40 {
		exports = append(exports, &Export{
			Name:        fmt.Sprintf("disk %d/ä", i),
			Description: "number\x1b " + fmt.Sprint(i),
			Device:      block.FromBytes(make([]byte, 4096*(i+1))),
			ReadOnly:    i%2 == 1,
		})
	}
	s := &Server{Exports: exports, Limits: Limits{Options: 32}}
	d := toServer(t, s)
	list, err := d.List(t.Context(), "nbd:///")
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(exports) {
		t.Fatalf("%d exports", len(list))
	}
	for i, e := range list {
		if e.Name != exports[i].Name || e.Size != int64(4096*(i+1)) || e.Has("READ_ONLY") != exports[i].ReadOnly {
			t.Errorf("%d: %+v", i, e)
		}
		if len(e.Contexts) == 0 || e.Contexts[0] != block.Allocation || e.MaxBlock == 0 {
			t.Errorf("%d: %+v", i, e)
		}
		if want := fmt.Sprintf("number? %d", i); e.Description != want {
			t.Errorf("description %q, expected %q", e.Description, want)
		}
	}
	c := dialTest(t, d, "nbd:///disk%203%2F%C3%A4")
	if got := c.Export(); got.Name != "disk 3/ä" || got.Size != 4*4096 || !c.Info().ReadOnly {
		t.Errorf("%+v", got)
	}
	if err := c.WriteAt(t.Context(), make([]byte, 1), 0, 0); !errors.Is(err, block.ErrReadOnly) {
		t.Errorf("write: %v", err)
	}
	if _, err := d.Dial(t.Context(), "nbd:///other"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `the server has no export "other"`) {
		t.Errorf("unknown export: %v", err)
	}
}

// failDevice fails every change and read with its error.
type failDevice struct {
	block.Pass
	err error
}

func (d *failDevice) Info() block.Info {
	i := d.Pass.Info()
	i.NoWait = false
	return i
}
func (d *failDevice) ReadAt(context.Context, []byte, int64, block.Flags) error  { return d.err }
func (d *failDevice) WriteAt(context.Context, []byte, int64, block.Flags) error { return d.err }
func (d *failDevice) Flush(context.Context) error                               { return d.err }

func TestClientErrors(t *testing.T) {
	t.Parallel()
	for _, want := range []error{block.ErrIO, block.ErrNoSpace, block.ErrPermission, block.ErrNoMemory, block.ErrInvalid} {
		for _, replies := range []Replies{SimpleReplies, StructuredReplies, ExtendedReplies} {
			dev := &failDevice{block.Pass{Device: block.FromBytes(make([]byte, 1<<20))}, want}
			d := toServer(t, &Server{Exports: Exports{{Device: dev}}})
			d.Replies = replies
			c := dialTest(t, d, "nbd:///")
			p := make([]byte, 512)
			for what, err := range map[string]error{
				"READ of 512 bytes at offset 1024":  c.ReadAt(t.Context(), p, 1024, 0),
				"WRITE of 512 bytes at offset 1024": c.WriteAt(t.Context(), p, 1024, 0),
				"FLUSH":                             c.Flush(t.Context()),
			} {
				if !errors.Is(err, want) || !strings.Contains(err.Error(), what) {
					t.Errorf("%v: %s: got %v, want %v", replies, what, err, want)
				}
			}
		}
	}
}

// Zero and Trim are split when lengths have 32 bits, and not otherwise.
func TestClientSplits(t *testing.T) {
	t.Parallel()
	for replies, want := range map[Replies]int{SimpleReplies: 5, StructuredReplies: 5, ExtendedReplies: 1} {
		dev := &hugeDevice{}
		d := toServer(t, &Server{Exports: Exports{{Device: dev}}})
		d.Replies = replies
		c := dialTest(t, d, "nbd:///")
		for range 2 {
			if err := c.Zero(t.Context(), 4096, hugeSize-4096, block.FastZero); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Trim(t.Context(), 4096, hugeSize-4096, 0); err != nil {
			t.Fatal(err)
		}
		if dev.zeros != 2*want || dev.trims != want || dev.bytes != 3*(hugeSize-4096) {
			t.Errorf("%v: %d zeros, %d trims of %d bytes", replies, dev.zeros, dev.trims, dev.bytes)
		}
		n := int64(0)
		for e, err := range c.Extents(t.Context(), block.Allocation, 0, hugeSize) {
			if err != nil {
				t.Fatal(err)
			}
			n += e.Len
		}
		if n != hugeSize {
			t.Errorf("%v: extents of %d bytes", replies, n)
		}
		p := make([]byte, 70<<20)
		if err := c.ReadAt(t.Context(), p, 1, 0); err != nil {
			t.Error(err)
		}
	}
}

const hugeSize = 9 << 30

// hugeDevice counts the requests that it gets.
type hugeDevice struct {
	block.Device
	mu           sync.Mutex
	zeros, trims int
	bytes        int64
}

func (d *hugeDevice) Info() block.Info {
	return block.Info{Size: hugeSize, Trims: true, FastZeros: true, CheapExtents: true}
}
func (d *hugeDevice) Zero(_ context.Context, _, n int64, _ block.Flags) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.zeros++
	d.bytes += n
	return nil
}
func (d *hugeDevice) Trim(_ context.Context, _, n int64, _ block.Flags) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trims++
	d.bytes += n
	return nil
}
func (d *hugeDevice) ReadAt(context.Context, []byte, int64, block.Flags) error { return nil }
func (d *hugeDevice) Extents(_ context.Context, _ string, off, n int64) iter.Seq2[block.Extent, error] {
	return block.OneExtent(off, n, block.Zero)
}

func TestClientNoAllocation(t *testing.T) {
	c := dialTest(t, toServer(t, &Server{Exports: memExport(1 << 20)}), "nbd:///vm")
	p := make([]byte, 4096)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := testing.AllocsPerRun(2000, func() {
		if c.ReadAt(ctx, p, 4096, 0) != nil || c.WriteAt(ctx, p, 8192, 0) != nil || c.Zero(ctx, 0, 4096, 0) != nil || c.Flush(ctx) != nil {
			t.Error("a request failed")
		}
	})
	// The race detector and the server in the same process make some.
	if n > 0 && !race.Enabled {
		t.Errorf("%v allocations for four requests", n)
	}
}

func TestClientLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s := &Server{Exports: memExport(1 << 20)}
	d := toServer(t, s)
	d.Conns = 4
	c, err := d.Dial(t.Context(), "nbd:///vm")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Dial(t.Context(), "nbds:///vm"); err == nil {
		t.Error("TLS with a server that has none")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); !errors.Is(err, block.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if err := c.Flush(t.Context()); !errors.Is(err, block.ErrClosed) {
		t.Errorf("Flush after Close: %v", err)
	}
	s.Close()
	goleak.VerifyNone(t, before)
}

func BenchmarkClientRead4K(b *testing.B) {
	for _, depth := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(depth), func(b *testing.B) {
			c := dialTest(b, toServer(b, &Server{Exports: memExport(1 << 20)}), "nbd:///vm")
			b.ReportAllocs()
			b.SetBytes(4096)
			b.SetParallelism(max(depth/2, 1))
			run := func(next func() bool) {
				p := make([]byte, 4096)
				for next() {
					if err := c.ReadAt(b.Context(), p, 8192, 0); err != nil {
						b.Fatal(err)
					}
				}
			}
			if depth == 1 {
				run(b.Loop)
				return
			}
			b.RunParallel(func(pb *testing.PB) { run(pb.Next) })
		})
	}
}
