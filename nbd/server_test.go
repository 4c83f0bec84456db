package nbd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/race"
)

func TestServeAndShutdown(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp4", "tcp6", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen(network, map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": t.TempDir() + "/s"}[network])
			if err != nil {
				t.Fatal(err)
			}
			s := memServer(4096)
			served := make(chan error, 1)
			go func() { served <- s.Serve(l) }()
			conn, err := net.Dial(network, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			p := (&rawPeer{t: t, conn: conn}).open(true)
			p.alive()
			st := s.Conns()
			if len(st) != 1 || st[0].Export != "disk" || !st[0].Ready || st[0].Requests != 1 {
				t.Errorf("status %+v", st)
			}
			if err := s.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			p.gone()
			if err := <-served; err != ErrServerClosed {
				t.Error(err)
			}
			if err := s.ServeConn(context.Background(), conn); err != ErrServerClosed {
				t.Errorf("ServeConn after Shutdown: %v", err)
			}
		})
	}
}

// Shutdown gives up when its context ends, and still leaves nothing behind.
func TestShutdownBounded(t *testing.T) {
	t.Parallel()
	dev := newSlowDevice(1 << 20)
	s := &Server{Exports: Exports{{Device: dev}}}
	p := connect(t, s).open(false)
	p.send(cmdWrite, 0, 1, 0, 4096, make([]byte, 4096))
	<-dev.entered
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("enough"))
	go close(dev.proceed)
	if err := s.Shutdown(ctx); err == nil || err.Error() != "enough" {
		t.Error(err)
	}
	if err := p.result(); !errors.Is(err, ErrServerClosed) {
		t.Error(err)
	}
}

func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	s := memServer(4096)
	s.Limits.Conns, s.Limits.ConnsPerAddr = 3, 2
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	defer s.Close()
	dial := func() *rawPeer {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return &rawPeer{t: t, conn: conn}
	}
	first, second := dial().hello(), dial().hello()
	dial().gone() // a third from one address
	third := connect(t, s).hello()
	fourth := connect(t, s)
	fourth.gone()
	if err := fourth.result(); err == nil || !strings.Contains(err.Error(), "3 connections already") {
		t.Error(err)
	}
	first.expect(repAck, optAbort, nil)
	first.gone()
	for len(s.Conns()) > 2 {
		runtime.Gosched()
	}
	dial().hello().expect(repAck, optList, nil)
	second.expect(repAck, optList, nil)
	third.expect(repAck, optList, nil)
}

// A client that takes no replies is closed, so that its memory comes back.
func TestStalledClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memServer(1 << 20)
		mine, theirs := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- s.ServeConn(t.Context(), theirs) }()
		p := (&rawPeer{t: t, conn: mine}).open(false)
		start := time.Now()
		p.send(cmdRead, 0, 1, 0, 4096, nil)
		err := <-done
		if err == nil || err.Error() != "nbd: client takes no replies for 1m0s: i/o timeout" {
			t.Error(err)
		}
		if took := time.Since(start); took > 2*time.Minute {
			t.Errorf("took %v", took)
		}
		mine.Close()
	})
}

// An idle client is left alone.
func TestIdleClientStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mine, theirs := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- memServer(4096).ServeConn(t.Context(), theirs) }()
		p := (&rawPeer{t: t, conn: mine}).open(false)
		for range 3 {
			p.alive()
			time.Sleep(24 * time.Hour)
		}
		p.alive()
		p.send(cmdDisc, 0, 0, 0, 0, nil)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestInvalidServers(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]*Server{
		"nbd: TLS needs a TLSConfig":                                                                {TLS: TLSRequired},
		"nbd: payload limit 1000 is not a power of two from 64 KiB to 1 GiB":                        {Limits: Limits{Payload: 1000}},
		"nbd: a connection may hold 4096 bytes, but one request may have 33554432":                  {Limits: Limits{ConnBytes: 4096}},
		"nbd: the server may hold 4096 bytes, but one connection 67108864":                          {Limits: Limits{Bytes: 4096}},
		"nbd: a limit is negative: handshake -1ns, stall 1m0s":                                      {Limits: Limits{Handshake: -1}},
		"nbd: a limit is negative: options 1024, requests -1, conns 20000, conns per address 20000": {Limits: Limits{Requests: -1}},
	} {
		if err := s.ServeConn(context.Background(), nopConn{}); err == nil || err.Error() != want {
			t.Errorf("%v, expected %s", err, want)
		}
	}
}

type nopConn struct{ net.Conn }

func (nopConn) Close() error { return nil }

// Flush covers the writes of every connection to an export.
func TestFlushCoversAllConnections(t *testing.T) {
	t.Parallel()
	var order []string
	var mu sync.Mutex
	note := func(s string) { mu.Lock(); order = append(order, s); mu.Unlock() }
	dev := &noteDevice{block.Pass{Device: block.FromBytes(make([]byte, 1<<20))}, note}
	s := &Server{Exports: Exports{{Device: dev}}}
	a, b := connect(t, s).open(false), connect(t, s).open(true)
	a.send(cmdWrite, 0, 1, 0, 4096, make([]byte, 4096))
	a.simple(1, 0)
	b.alive()
	if got := strings.Join(order, " "); got != "write flush" {
		t.Errorf("device sees %s", got)
	}
}

type noteDevice struct {
	block.Pass
	note func(string)
}

func (d *noteDevice) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	err := d.Pass.WriteAt(ctx, p, off, flags)
	d.note("write")
	return err
}

func (d *noteDevice) Flush(ctx context.Context) error {
	d.note("flush")
	return d.Pass.Flush(ctx)
}

// Wrap is around the device of every connection, and the caller is known to
// what it puts there.
func TestWrapSeesCaller(t *testing.T) {
	t.Parallel()
	var seen atomic.Pointer[block.Caller]
	s := memServer(1 << 20)
	s.Wrap = func(dev block.Device) block.Device { return &callerDevice{block.Pass{Device: dev}, &seen} }
	p := connect(t, s).open(false)
	if code := p.status(false, cmdRead, 0, 0, 512); code != 0 {
		t.Fatal(code)
	}
	if c := seen.Load(); c == nil || c.Export != "disk" || c.Peer == "" {
		t.Errorf("caller %+v", c)
	}
}

type callerDevice struct {
	block.Pass
	seen *atomic.Pointer[block.Caller]
}

func (d *callerDevice) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	d.seen.Store(block.CallerOf(ctx))
	return d.Pass.ReadAt(ctx, p, off, flags)
}

// In steady state a request allocates nothing, in line or through a worker.
func TestNoAllocationPerRequest(t *testing.T) {
	if race.Enabled {
		t.Skip("allocations cannot be counted under the race detector")
	}
	for name, noWait := range map[string]bool{"in line": true, "worker": false} {
		for _, write := range []bool{false, true} {
			t.Run(name+map[bool]string{false: " read", true: " write"}[write], func(t *testing.T) {
				mem := bytes.Repeat([]byte{1}, 1<<20)
				dev := &infoDevice{block.Pass{Device: block.FromBytes(mem)}, func(i *block.Info) { i.NoWait = noWait }}
				p := connect(t, &Server{Exports: Exports{{Device: dev}}}).open(false)
				ask, answer := requestBytes(false, cmdRead, 0, 1, 0, 4096, nil), make([]byte, simpleReplySize+4096)
				if write {
					ask, answer = requestBytes(false, cmdWrite, 0, 1, 0, 4096, make([]byte, 4096)), make([]byte, simpleReplySize)
				}
				allocs := testing.AllocsPerRun(2000, func() {
					p.conn.Write(ask)
					io.ReadFull(p.conn, answer)
				})
				if allocs >= 0.5 {
					t.Errorf("%.2f allocations per request", allocs)
				}
			})
		}
	}
}

// Idle connections hold no buffers.
func TestIdleConnectionsAreCheap(t *testing.T) {
	const n = 500
	s := memServer(1 << 20)
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	defer s.Close()
	before := memoryInUse()
	conns := make([]*os.File, 0, n)
	for range n {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		p := (&rawPeer{t: t, conn: c}).open(true)
		if code := p.status(true, cmdRead, 0, 0, 64<<10); code != 0 {
			t.Fatal(code)
		}
		f, err := c.(*net.UnixConn).File() // our end costs no Go memory this way
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		conns = append(conns, f)
	}
	per := (memoryInUse() - before) / n
	t.Logf("%d bytes per idle connection", per)
	if per > 20<<10 {
		t.Errorf("%d bytes per idle connection", per)
	}
	for _, f := range conns {
		f.Close()
	}
}

// memoryInUse is the memory of heap and stacks after a thorough collection.
func memoryInUse() int {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}

func BenchmarkServerRead4K(b *testing.B) {
	mem := bytes.Repeat([]byte{1}, 1<<20)
	p := connect(b, &Server{Exports: Exports{{Device: block.FromBytes(mem)}}}).open(false)
	ask := bytes.Repeat(requestBytes(false, cmdRead, 0, 1, 0, 4096, nil), 16)
	answer := make([]byte, 16*(simpleReplySize+4096))
	p.conn.SetDeadline(time.Time{})
	b.SetBytes(16 * 4096)
	b.ReportAllocs()
	for b.Loop() {
		p.conn.Write(ask)
		io.ReadFull(p.conn, answer)
	}
}
