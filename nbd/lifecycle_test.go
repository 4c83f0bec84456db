package nbd

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
)

// A drained connection ends although its client keeps sending: the server
// stops to receive.
func TestDrainOfBusyClient(t *testing.T) {
	t.Parallel()
	dev := &gatedDevice{block.Pass{Device: block.FromBytes(make([]byte, 4096))}, make(chan struct{}), make(chan struct{})}
	s := &Server{Exports: Exports{{Device: dev}}}
	p := connect(t, s).open(false)
	p.send(cmdRead, 0, 0, 0, 512, nil)
	go io.Copy(io.Discard, p.conn)
	for i := range uint64(100) {
		select {
		case <-dev.entered:
		case err := <-p.done:
			if err != nil {
				t.Error(err)
			}
			if i < 10 {
				t.Errorf("ended after %d requests", i)
			}
			return
		}
		if i == 10 {
			s.Drain(func(ConnStatus) bool { return true })
		}
		p.send(cmdRead, 0, i, 0, 512, nil)
		dev.proceed <- struct{}{}
	}
	t.Error("the connection goes on for ever")
	p.conn.Close()
}

// gatedDevice lets a test be there during each read.
type gatedDevice struct {
	block.Pass
	entered, proceed chan struct{}
}

func (d *gatedDevice) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	d.entered <- struct{}{}
	<-d.proceed
	return d.Pass.ReadAt(ctx, p, off, flags)
}

// The connections are closed when Shutdown returns.
func TestShutdownClosesConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memServer(4096)
		mine, theirs := net.Pipe()
		conn := &slowlyClosed{Conn: theirs}
		done := make(chan error)
		go func() { done <- s.ServeConn(t.Context(), conn) }()
		p := (&rawPeer{t: t, conn: mine}).open(false)
		p.alive()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if !conn.closed.Load() {
			t.Error("Shutdown has returned before the connection was closed")
		}
		<-done
		mine.Close()
	})
}

type slowlyClosed struct {
	net.Conn
	closed atomic.Bool
}

func (c *slowlyClosed) Close() error {
	err := c.Conn.Close()
	time.Sleep(time.Second)
	c.closed.Store(true)
	return err
}

// A client that has left does not want the cache to be filled any more.
func TestCacheEndsWithClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := &huge{proceed: make(chan struct{})}
		p := pipe(t, t.Context(), &Server{Exports: Exports{{Device: dev}}}).open(false)
		p.send(cmdCache, 0, 1, 0, 1<<32-1, nil)
		p.send(cmdDisc, 0, 2, 0, 0, nil)
		synctest.Wait()
		close(dev.proceed)
		if code, _ := p.simple(1, 0); code != 0 {
			t.Errorf("error %d", code)
		}
		p.gone()
		if n := dev.reads.Load(); n > 10 {
			t.Errorf("%d reads", n)
		}
	})
}

// huge is a device of 1 TiB, the first read of which waits.
type huge struct {
	block.Device
	proceed chan struct{}
	reads   atomic.Int64
}

func (d *huge) Info() block.Info { return block.Info{Size: 1 << 40} }

func (d *huge) ReadAt(context.Context, []byte, int64, block.Flags) error {
	d.reads.Add(1)
	<-d.proceed
	return nil
}

// DISC has no reply, whatever is wrong with it.
func TestDiscIsNeverAnswered(t *testing.T) {
	t.Parallel()
	eachMode(t, func() *Server { return memServer(4096) }, func(t *testing.T, p *rawPeer, _ bool) {
		p.send(cmdDisc, 1<<9, 1, 77, 88, nil)
		p.gone()
		if err := p.result(); err != nil {
			t.Error(err)
		}
	})
}

// Serve goes on after errors that concern one connection or the moment.
func TestAcceptErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		last := errors.New("no more")
		l := &failingListener{errs: []error{
			syscall.EMFILE, syscall.ENOBUFS, syscall.ECONNABORTED,
			&net.OpError{Op: "accept", Err: errors.Join(syscall.EMFILE)}, last,
		}}
		if err := (&Server{}).Serve(l); err != last {
			t.Errorf("%v, with %d errors to come", err, len(l.errs))
		}
	})
}

type failingListener struct{ errs []error }

func (l *failingListener) Accept() (net.Conn, error) {
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, err
}

func (l *failingListener) Close() error   { return nil }
func (l *failingListener) Addr() net.Addr { return &net.UnixAddr{Name: "x"} }
