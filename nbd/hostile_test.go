package nbd

import (
	"bytes"
	"context"
	"iter"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
)

// pipe returns a client of s over a pipe without any buffer, for synctest.
func pipe(t *testing.T, ctx context.Context, s *Server) *rawPeer {
	mine, theirs := net.Pipe()
	p := &rawPeer{t: t, conn: mine, done: make(chan error, 1)}
	go func() { p.done <- s.ServeConn(ctx, theirs) }()
	t.Cleanup(func() { mine.Close() })
	return p
}

// A client that floods the server with requests and takes no replies is not
// read from any more, whatever the requests are.
func TestUnreadSmallRepliesAreBounded(t *testing.T) {
	t.Parallel()
	for _, cmd := range []command{cmdFlush, cmdWriteZeroes, cmdBlockStatus, cmdRead} {
		t.Run(cmd.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				dev := &busyDevice{Pass: block.Pass{Device: workerDevice(block.FromBytes(make([]byte, 1<<20)))}}
				s := &Server{Exports: Exports{{Device: dev}}, Limits: Limits{Payload: 1 << 20, ConnBytes: 4 << 20}}
				p := pipe(t, t.Context(), s).open(true)
				go func() {
					flood := bytes.Repeat(requestBytes(false, cmd, 0, 1, 0, 64<<10, nil), 100)
					for range 200 {
						if _, err := p.conn.Write(flood); err != nil {
							return
						}
					}
				}()
				synctest.Wait()
				if n := dev.requests.Load(); n < 1 || n > 1000 {
					t.Errorf("%d requests handled for a client that takes no reply", n)
				}
				p.conn.Close()
				p.result()
				if n := lent(s); n != 0 {
					t.Errorf("%d bytes are still lent", n)
				}
			})
		})
	}
}

// busyDevice counts requests, and its status changes every 8 bytes.
type busyDevice struct {
	block.Pass
	requests atomic.Int64
}

func (d *busyDevice) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	d.requests.Add(1)
	return d.Pass.ReadAt(ctx, p, off, flags)
}

func (d *busyDevice) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	d.requests.Add(1)
	return nil
}

func (d *busyDevice) Flush(ctx context.Context) error {
	d.requests.Add(1)
	return nil
}

func (d *busyDevice) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	d.requests.Add(1)
	return func(yield func(block.Extent, error) bool) {
		for end := off + n; off < end; off += 8 {
			if !yield(block.Extent{Off: off, Len: 8, Status: uint64(off / 8 % 2)}, nil) {
				return
			}
		}
	}
}

// Who has announced a payload holds memory for it, and must send it.
func TestStalledPayload(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		piece int
		every time.Duration
		fails bool
	}{
		"nothing":       {0, 0, true},
		"dripping":      {1, time.Second, true},
		"slow, but all": {roundSize, 50 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &Server{Exports: Exports{{Device: workerDevice(block.FromBytes(make([]byte, 8<<20)))}}}
				p := pipe(t, t.Context(), s).open(false)
				start := time.Now()
				p.write(requestBytes(false, cmdWrite, 0, 1, 0, 8<<20, nil))
				feeder := make(chan struct{})
				go func() {
					defer close(feeder)
					for sent := 0; sent < 8<<20 && test.piece > 0; sent += test.piece {
						time.Sleep(test.every)
						if _, err := p.conn.Write(make([]byte, test.piece)); err != nil {
							return
						}
					}
				}()
				if test.fails {
					const want = "nbd: client sends too little of a payload for 1m0s: i/o timeout"
					if err := <-p.done; err == nil || err.Error() != want {
						t.Errorf("%v, expected %s", err, want)
					}
					if took := time.Since(start); took > 2*time.Minute+time.Second {
						t.Errorf("took %v", took)
					}
				} else {
					p.simple(1, 0)
					time.Sleep(time.Hour)
					p.alive()
				}
				p.conn.Close()
				<-feeder
				if n := lent(s); n != 0 {
					t.Errorf("%d bytes are still lent", n)
				}
			})
		})
	}
}

// A connection that breaks while a payload waits for a worker gives the
// payload's memory back.
func TestPayloadWithoutWorkerIsReleased(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dev := newSlowDevice(1 << 20)
		s := &Server{Exports: Exports{{Device: dev}}, Limits: Limits{Requests: 1}}
		ctx, cancel := context.WithCancel(t.Context())
		p := pipe(t, ctx, s).open(false)
		for i := range uint64(2) {
			p.send(cmdWrite, 0, i, 0, 128<<10, make([]byte, 128<<10))
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(dev.proceed)
		<-p.done
		if n := lent(s); n != 0 {
			t.Errorf("%d bytes are still lent", n)
		}
	})
}

// A slow client of a TLS connection is no worse off than others: what counts
// is that it takes something.
func TestSlowClientOfTLSStays(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := memServer(8 << 20)
			s.TLS, s.TLSConfig = TLSOptional, testTLS(t)
			p := pipe(t, t.Context(), s).hello()
			if secure {
				p.startTLS()
			}
			p.expect(repAck, optGo, infoData(""))
			p.send(cmdRead, 0, 1, 0, 8<<20, nil)
			p.read(simpleReplySize)
			for range 8 {
				time.Sleep(50 * time.Second)
				p.read(roundSize)
			}
			p.alive()
			p.conn.Close()
			<-p.done
		})
	}
}

// The end of a connection is the end of its watch.
func TestWatchEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := &transmission{cancel: func(err error) { t.Error(err) }}
		stop := tr.watch(time.Minute)
		tr.sending.begin()
		time.Sleep(90 * time.Second)
		stop()
		time.Sleep(time.Hour)
	})
}

// What a vanished client has asked for is not worked on for nobody.
func TestNoWorkForVanishedClient(t *testing.T) {
	t.Parallel()
	for _, noWait := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var reads atomic.Int64
			mem := bytes.Repeat([]byte{1}, 1<<20)
			dev := &infoDevice{block.Pass{Device: &countingDevice{block.Pass{Device: block.FromBytes(mem)}, &reads}}, func(i *block.Info) { i.NoWait = noWait }}
			p := pipe(t, t.Context(), &Server{Exports: Exports{{Device: dev}}}).open(true)
			p.write(bytes.Repeat(requestBytes(false, cmdRead, 0, 1, 0, 1<<20, nil), 200))
			synctest.Wait() // stuck in the first reply
			before := reads.Load()
			p.conn.Close()
			p.result()
			if n := reads.Load() - before; n > 16 {
				t.Errorf("noWait=%v: %d more reads", noWait, n)
			}
		})
	}
}

// A client that has sent the start of an option or a request, however much it
// announces, costs little memory.
func TestAnnouncementsAreCheap(t *testing.T) {
	const n = 200
	s := memServer(1 << 20)
	option := optionBytes(99, make([]byte, maxOption))[:16]
	request := requestBytes(false, cmdWrite, 0, 1, 0, 60<<10, nil)
	for what, start := range map[string]func(p *rawPeer){
		"option":  func(p *rawPeer) { p.hello().expect(repAck, optList, nil); p.write(option) },
		"request": func(p *rawPeer) { p.open(false).alive(); p.write(request) },
	} {
		before := memoryInUse()
		peers := make([]*rawPeer, n)
		for i := range peers {
			peers[i] = connect(t, s)
			start(peers[i])
		}
		// When one more is served, so have they been.
		connect(t, s).open(false).alive()
		per := (memoryInUse() - before) / n
		t.Logf("%s: %d bytes per connection", what, per)
		if per > 48<<10 {
			t.Errorf("%s: %d bytes per connection", what, per)
		}
		for _, p := range peers {
			p.conn.Close()
			p.result()
		}
	}
}
