package nbd

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"os"
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

// Drain reaches a client that still negotiates, and one whose export is being
// resolved, whose export is released.
func TestDrainDuringNegotiation(t *testing.T) {
	t.Parallel()
	for _, resolving := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			resolve, released := make(chan struct{}), 0
			s := &Server{Exports: gatedResolver{resolve, &Export{
				Device: block.FromBytes(make([]byte, 512)), Release: func() { released++ },
			}}}
			p := pipe(t, t.Context(), s).hello()
			if resolving {
				p.write(optionBytes(optGo, infoData("")))
			}
			synctest.Wait()
			if n := s.Drain(func(c ConnStatus) bool { return !c.Ready }); n != 1 {
				t.Errorf("%d connections drained", n)
			}
			close(resolve)
			if resolving {
				p.reply(optGo)
				p.reply(optGo)
			}
			p.gone()
			if err := p.result(); err != nil {
				t.Error(err)
			}
			if resolving != (released == 1) {
				t.Errorf("released %d times", released)
			}
		})
	}
}

type gatedResolver struct {
	resolve chan struct{}
	export  *Export
}

func (r gatedResolver) Resolve(context.Context, *ExportRequest) (*Export, error) {
	<-r.resolve
	return r.export, nil
}

func (r gatedResolver) List(context.Context, *Peer) ([]*Export, error) { return nil, nil }

// The limit on the handshake covers that of TLS, and ends with it.
func TestHandshakeTimeoutOfTLS(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memServer(4096)
		s.TLS, s.TLSConfig = TLSRequired, testTLS(t)
		start := time.Now()
		silent := pipe(t, t.Context(), s).hello()
		time.Sleep(9 * time.Second)
		silent.expect(repAck, optStartTLS, nil)
		if err := silent.result(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
		p := pipe(t, t.Context(), s).hello().startTLS()
		p.expect(repAck, optGo, infoData(""))
		time.Sleep(24 * time.Hour)
		p.alive()
		p.send(cmdDisc, 0, 0, 0, 0, nil)
		if _, err := p.conn.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
		if err := <-p.done; err != nil {
			t.Error(err)
		}
	})
}

// The smallest and the largest of devices.
func TestExtremeSizes(t *testing.T) {
	t.Parallel()
	empty := func() *Server { return memServer(0) }
	eachMode(t, empty, func(t *testing.T, p *rawPeer, structured bool) {
		for _, cmd := range []command{cmdRead, cmdTrim, cmdWriteZeroes, cmdBlockStatus} {
			p.status(structured, cmd, 0, 0, 0)
		}
		if got := p.status(structured, cmdRead, 0, 0, 1); got != wireEINVAL {
			t.Errorf("READ: error %d", got)
		}
		p.alive()
	})
	const size = math.MaxInt64
	endless := func() *Server { return &Server{Exports: Exports{{Device: &endlessDevice{}}}} }
	eachMode(t, endless, func(t *testing.T, p *rawPeer, structured bool) {
		for _, at := range []struct {
			off, n uint64
			want   uint32
		}{{size - 4096, 4096, 0}, {size - 1, 1, 0}, {size - 1, 2, wireEINVAL}, {size, 1, wireEINVAL}, {size + 1, 0, wireEINVAL}} {
			if got := p.status(structured, cmdRead, 0, at.off, at.n); got != at.want {
				t.Errorf("READ of %d at %d: error %d", at.n, at.off, got)
			}
		}
		const n = 100 << 10
		flags := uint16(0)
		if p.extended {
			flags = cmdFlagPayloadLen
			if got := p.status(true, cmdWriteZeroes, 0, 0, size); got != 0 {
				t.Errorf("WRITE_ZEROES of everything: error %d", got)
			}
		}
		p.send(cmdWrite, flags, 2, size-n, n, make([]byte, n))
		if got := p.outcome(structured, cmdWrite, 2, 0); got != 0 {
			t.Errorf("WRITE at the end: error %d", got)
		}
		p.alive()
	})
}

// endlessDevice is as large as can be.
type endlessDevice struct{ block.Device }

func (*endlessDevice) Info() block.Info { return block.Info{Size: math.MaxInt64, NoWait: true} }

func (d *endlessDevice) check(off, n int64) error {
	info := d.Info()
	return info.CheckRange(off, n)
}

func (d *endlessDevice) ReadAt(_ context.Context, p []byte, off int64, _ block.Flags) error {
	return d.check(off, int64(len(p)))
}

func (d *endlessDevice) WriteAt(_ context.Context, p []byte, off int64, _ block.Flags) error {
	return d.check(off, int64(len(p)))
}

func (d *endlessDevice) Zero(_ context.Context, off, n int64, _ block.Flags) error {
	return d.check(off, n)
}

func (d *endlessDevice) Flush(context.Context) error { return nil }

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

// A resolver that waits for a device does not keep a server from ending.
func TestShutdownWhileResolving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		entered := make(chan struct{})
		s := &Server{Exports: waitingResolver{entered}}
		mine, theirs := net.Pipe()
		done := make(chan error)
		go func() { done <- s.ServeConn(t.Context(), theirs) }()
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			d := &Dialer{Connect: func(context.Context) (net.Conn, error) { return mine, nil }}
			if c, err := d.Dial(t.Context(), "nbd://x/vm"); err == nil {
				c.Close()
				t.Error("an export was opened")
			}
		}()
		<-entered
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		<-done
		<-asked
	})
}

// A waitingResolver finds nothing, for as long as it may.
type waitingResolver struct{ entered chan struct{} }

func (r waitingResolver) Resolve(ctx context.Context, _ *ExportRequest) (*Export, error) {
	close(r.entered)
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func (r waitingResolver) List(context.Context, *Peer) ([]*Export, error) { return nil, nil }
