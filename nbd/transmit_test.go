package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/strata-storage/strata/block"
)

// wireModes are the ways in which a client can speak after the negotiation.
var wireModes = map[string]func(p *rawPeer) *rawPeer{
	"simple":     func(p *rawPeer) *rawPeer { return p.open(false) },
	"structured": func(p *rawPeer) *rawPeer { return p.open(true) },
	"extended":   func(p *rawPeer) *rawPeer { return p.openExtended() },
}

// eachMode runs f with a client in every mode.
func eachMode(t *testing.T, s func() *Server, f func(t *testing.T, p *rawPeer, structured bool)) {
	for name, open := range wireModes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, open(connect(t, s())), name != "simple")
		})
	}
}

// Requests that are refused cost an error, never the connection, and the
// payload of a WRITE is taken out of the way.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	readOnly := func() *Server {
		s := memServer(size)
		s.Exports.(Exports)[0].ReadOnly = true
		return s
	}
	type test struct {
		what        string
		cmd         command
		flags       uint16
		off, length uint64
		want        uint32
	}
	writable := []test{
		{"read past the end", cmdRead, 0, size, 1, wireEINVAL},
		{"read across the end", cmdRead, 0, size - 1, 2, wireEINVAL},
		{"read that wraps", cmdRead, 0, math.MaxUint64 - 1, 4096, wireEINVAL},
		{"read at a negative offset", cmdRead, 0, 1 << 63, 4096, wireEINVAL},
		{"trim past the end", cmdTrim, 0, size - 1, 4096, wireEINVAL},
		{"cache past the end", cmdCache, 0, size, 4096, wireEINVAL},
		{"cache", cmdCache, 0, 0, size, 0},
		{"zero past the end", cmdWriteZeroes, 0, size - 4095, 4096, wireENOSPC},
		{"zero that wraps", cmdWriteZeroes, 0, math.MaxUint64, 2, wireENOSPC},
		{"read of nothing", cmdRead, 0, 0, 0, 0},
		{"zero of nothing at the end", cmdWriteZeroes, 0, size, 0, 0},
		{"unknown command", 99, 0, 0, 512, wireEINVAL},
		{"resize, which is reserved", 8, 0, 0, 512, wireEINVAL},
		{"unknown flag", cmdRead, 1 << 9, 0, 512, wireEINVAL},
		{"NO_HOLE on read", cmdRead, cmdFlagNoHole, 0, 512, wireEINVAL},
		{"REQ_ONE on flush", cmdFlush, cmdFlagReqOne, 0, 0, wireEINVAL},
		{"FUA on read", cmdRead, cmdFlagFUA, 0, 512, 0},
		{"FUA on flush", cmdFlush, cmdFlagFUA, 0, 0, 0},
		{"FUA on cache", cmdCache, cmdFlagFUA, 0, 512, 0},
		{"FUA and NO_HOLE on zero", cmdWriteZeroes, cmdFlagFUA | cmdFlagNoHole, 0, 512, 0},
		{"FAST_ZERO, which is offered", cmdWriteZeroes, cmdFlagFastZero, 0, 512, 0},
		{"TRIM, which is not offered", cmdTrim, 0, 0, 512, wireEINVAL},
	}
	eachMode(t, func() *Server { return memServer(size) }, func(t *testing.T, p *rawPeer, structured bool) {
		for _, tt := range writable {
			if got := p.status(structured, tt.cmd, tt.flags, tt.off, tt.length); got != tt.want {
				t.Errorf("%s: error %d, expected %d", tt.what, got, tt.want)
			}
			p.alive()
		}
		if got := p.status(structured, cmdRead, 0, 0, 64<<20); got != wireEINVAL {
			t.Errorf("read longer than the device: %d", got)
		}
	})
	eachMode(t, readOnly, func(t *testing.T, p *rawPeer, structured bool) {
		for _, cmd := range []command{cmdTrim, cmdWriteZeroes} {
			if got := p.status(structured, cmd, 0, 0, 512); got != wireEPERM {
				t.Errorf("%v of a read-only export: error %d", cmd, got)
			}
		}
		p.alive()
	})
}

func TestPayloadOfRefusedWriteIsSkipped(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	for _, n := range []uint64{1, 4096, 64 << 10, 300 << 10, 33 << 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			eachMode(t, func() *Server { return memServer(size) }, func(t *testing.T, p *rawPeer, structured bool) {
				flags := uint16(0)
				if p.extended {
					flags = cmdFlagPayloadLen
				}
				for off, want := range map[uint64]uint32{size: wireENOSPC, math.MaxUint64: wireENOSPC} {
					p.send(cmdWrite, flags, 7, off, n, make([]byte, n))
					if code := p.outcome(structured, cmdWrite, 7, 0); code != want {
						t.Errorf("write at %d: error %d, expected %d", off, code, want)
					}
					p.alive()
				}
			})
		})
	}
}

// Error replies to READ are chunks where the client expects chunks, and tell
// what is wrong.
func TestErrorsAreChunksWithText(t *testing.T) {
	t.Parallel()
	p := connect(t, memServer(4096)).open(true)
	p.send(cmdRead, 0, 5, 4096, 1, nil)
	c := p.chunks(5)
	if len(c) != 1 || c[0].kind != chunkError || c[0].code() != wireEINVAL {
		t.Fatalf("%+v", c)
	}
	n := binary.BigEndian.Uint16(c[0].data[4:])
	if text := string(c[0].data[6 : 6+n]); text != "READ of 1 bytes at 4096, the export has 4096" {
		t.Errorf("text %q", text)
	}
}

func TestMisalignedRequests(t *testing.T) {
	t.Parallel()
	dev := &infoDevice{block.Pass{Device: block.FromBytes(make([]byte, 64<<10))}, func(i *block.Info) { i.MinBlock = 4096 }}
	s := func() *Server { return &Server{Exports: Exports{{Device: dev}}} }
	eachMode(t, s, func(t *testing.T, p *rawPeer, structured bool) {
		for _, at := range [][2]uint64{{0, 512}, {512, 4096}, {1, 1}} {
			if got := p.status(structured, cmdRead, 0, at[0], at[1]); got != wireEINVAL {
				t.Errorf("%v: error %d", at, got)
			}
		}
		if got := p.status(structured, cmdRead, 0, 4096, 8192); got != 0 {
			t.Errorf("aligned: error %d", got)
		}
	})
}

// infoDevice changes the Info of a device.
type infoDevice struct {
	block.Pass
	change func(*block.Info)
}

func (d *infoDevice) Info() block.Info {
	i := d.Pass.Info()
	d.change(&i)
	return i
}

func TestReadDontFragment(t *testing.T) {
	t.Parallel()
	mem := make([]byte, 1<<20)
	for i := range mem {
		mem[i] = byte(i >> 8)
	}
	for _, noWait := range []bool{true, false} {
		dev := &infoDevice{block.Pass{Device: block.FromBytes(bytes.Clone(mem))}, func(i *block.Info) { i.NoWait = noWait }}
		p := connect(t, &Server{Exports: Exports{{Device: dev}}}).open(true)
		for _, n := range []int{1, 64 << 10, 1 << 20} {
			p.send(cmdRead, cmdFlagDF, 1, 0, uint64(n), nil)
			c := p.chunks(1)
			if len(c) != 1 || c[0].kind != chunkOffsetData || !bytes.Equal(c[0].data[8:], mem[:n]) {
				t.Errorf("noWait=%v: DF read of %d bytes gives %d chunks", noWait, n, len(c))
			}
		}
	}
}

// A sparse read: zeros arrive as holes, and all pieces cover the request.
func TestReadHoles(t *testing.T) {
	t.Parallel()
	mem := make([]byte, 2<<20)
	for i := 600 << 10; i < 700<<10; i++ {
		mem[i] = 1
	}
	for _, noWait := range []bool{true, false} {
		for _, extended := range []bool{false, true} {
			dev := &infoDevice{block.Pass{Device: block.FromBytes(bytes.Clone(mem))}, func(i *block.Info) { i.NoWait = noWait }}
			p := connect(t, &Server{Exports: Exports{{Device: dev}}})
			if extended {
				p.openExtended()
			} else {
				p.open(true)
			}
			p.send(cmdRead, 0, 1, 4096, 1<<20, nil)
			got, holes := bytes.Repeat([]byte{0xee}, 1<<20), 0
			for _, c := range p.chunks(1) {
				off := binary.BigEndian.Uint64(c.data) - 4096
				switch c.kind {
				case chunkOffsetHole:
					n := binary.BigEndian.Uint32(c.data[8:])
					clear(got[off : off+uint64(n)])
					holes++
				case chunkOffsetData:
					copy(got[off:], c.data[8:])
				default:
					t.Fatalf("chunk of type %d", c.kind)
				}
			}
			if !bytes.Equal(got, mem[4096:4096+1<<20]) || holes == 0 {
				t.Errorf("noWait=%v extended=%v: wrong data, or none of it as a hole (%d)", noWait, extended, holes)
			}
		}
	}
}

// flakyDevice fails reads behind an offset and every change.
type flakyDevice struct {
	block.Pass
	from int64
	err  error
}

func (d *flakyDevice) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if off+int64(len(p)) > d.from {
		return d.err
	}
	return d.Pass.ReadAt(ctx, p, off, flags)
}

func (d *flakyDevice) WriteAt(context.Context, []byte, int64, block.Flags) error { return d.err }
func (d *flakyDevice) Zero(context.Context, int64, int64, block.Flags) error     { return d.err }
func (d *flakyDevice) Flush(context.Context) error                               { return d.err }

func TestDeviceErrorsOnTheWire(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]uint32{
		block.ErrIO: wireEIO, block.ErrNoSpace: wireENOSPC, syscall.EDQUOT: wireENOSPC, syscall.EFBIG: wireENOSPC,
		block.ErrReadOnly: wireEPERM, block.ErrPermission: wireEPERM, block.ErrInvalid: wireEINVAL, block.ErrRange: wireEINVAL,
		block.ErrNoMemory: wireENOMEM, block.ErrClosed: wireESHUTDOWN, errors.New("anything"): wireEIO,
		block.ErrNotSupported: wireEINVAL, syscall.EOVERFLOW: wireEIO, fmt.Errorf("x: %w", syscall.ENOSPC): wireENOSPC,
	} {
		s := func() *Server {
			mem := bytes.Repeat([]byte{1}, 1<<20)
			return &Server{Exports: Exports{{Device: &flakyDevice{block.Pass{Device: block.FromBytes(mem)}, 0, err}}}}
		}
		eachMode(t, s, func(t *testing.T, p *rawPeer, structured bool) {
			for _, cmd := range []command{cmdRead, cmdWriteZeroes} {
				if got := p.status(structured, cmd, 0, 0, 512); got != want {
					t.Errorf("%v: %v is %d on the wire, expected %d", err, cmd, got, want)
				}
			}
			if got := p.status(structured, cmdFlush, 0, 0, 0); got != want {
				t.Errorf("%v: FLUSH is %d on the wire, expected %d", err, got, want)
			}
		})
	}
	if got := wireError(block.ErrNotSupported, block.FastZero); got != wireENOTSUP {
		t.Errorf("FAST_ZERO: %d", got)
	}
}

// A read that fails half way through tells where.
func TestReadErrorWithOffset(t *testing.T) {
	t.Parallel()
	mem := bytes.Repeat([]byte{1}, 1<<20)
	for _, noWait := range []bool{true, false} {
		flaky := &flakyDevice{block.Pass{Device: block.FromBytes(mem)}, 600 << 10, block.ErrIO}
		dev := &infoDevice{block.Pass{Device: flaky}, func(i *block.Info) { i.NoWait = noWait }}
		p := connect(t, &Server{Exports: Exports{{Device: dev}}}).open(true)
		p.send(cmdRead, 0, 1, 0, 1<<20, nil)
		all := p.chunks(1)
		last := all[len(all)-1]
		if last.kind != chunkErrorOffset || last.code() != wireEIO {
			t.Fatalf("last chunk has type %#x, code %d", last.kind, last.code())
		}
		if off := binary.BigEndian.Uint64(last.data[len(last.data)-8:]); off != 512<<10 {
			t.Errorf("error at %d", off)
		}
		if code := p.status(true, cmdRead, 0, 0, 4096); code != 0 {
			t.Errorf("next read: %d", code)
		}
	}
}

// slowDevice is one that blocks until it is told to go on.
type slowDevice struct {
	block.Pass
	entered chan struct{}
	proceed chan struct{}
	mu      sync.Mutex
	written int
}

func newSlowDevice(size int) *slowDevice {
	return &slowDevice{Pass: block.Pass{Device: block.FromBytes(make([]byte, size))},
		entered: make(chan struct{}, 1000), proceed: make(chan struct{})}
}

func (d *slowDevice) Info() block.Info {
	i := d.Pass.Info()
	i.NoWait = false
	return i
}

func (d *slowDevice) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	d.entered <- struct{}{}
	<-d.proceed
	d.mu.Lock()
	d.written++
	d.mu.Unlock()
	return d.Pass.WriteAt(ctx, p, off, flags)
}

// DISC, the end of the stream and Shutdown: what was received is completed and
// answered, however slow the device is.
func TestRequestsInFlightAreCompleted(t *testing.T) {
	t.Parallel()
	const n = 20
	for name, leave := range map[string]func(p *rawPeer, s *Server){
		"DISC":          func(p *rawPeer, _ *Server) { p.send(cmdDisc, 0, 0, 0, 0, nil) },
		"end of stream": func(p *rawPeer, _ *Server) { p.conn.(interface{ CloseWrite() error }).CloseWrite() },
		"shutdown":      func(_ *rawPeer, s *Server) { go s.Shutdown(context.Background()) },
		"drain":         func(_ *rawPeer, s *Server) { s.Drain(func(ConnStatus) bool { return true }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dev := newSlowDevice(1 << 20)
			s := &Server{Exports: Exports{{Device: dev}}}
			p := connect(t, s).open(false)
			for i := range uint64(n) {
				p.send(cmdWrite, 0, i, i*4096, 4096, make([]byte, 4096))
			}
			for range n {
				<-dev.entered
			}
			leave(p, s)
			close(dev.proceed)
			answered := map[uint64]bool{}
			for range n {
				head := p.read(simpleReplySize)
				answered[binary.BigEndian.Uint64(head[8:])] = binary.BigEndian.Uint32(head[4:]) == 0
			}
			p.gone()
			if len(answered) != n || dev.written != n {
				t.Errorf("%d answers, %d writes", len(answered), dev.written)
			}
			if err := p.result(); err != nil && !errors.Is(err, ErrServerClosed) {
				t.Error(err)
			}
		})
	}
}

// A client that goes away with replies unread must not hurt anybody.
func TestClientVanishes(t *testing.T) {
	t.Parallel()
	s := memServer(4 << 20)
	for i := range 50 {
		p := connect(t, s)
		p.open(i%2 == 0)
		go func() {
			for c := range uint64(200) {
				if _, err := p.conn.Write(requestBytes(false, cmdRead, 0, c, 0, 1<<20, nil)); err != nil {
					return
				}
			}
		}()
		p.read(100)
		p.conn.Close()
		p.result()
	}
	connect(t, s).open(true).alive()
}

// A client that reads nothing holds a bounded amount of memory.
func TestUnreadRepliesAreBounded(t *testing.T) {
	t.Parallel()
	var reads atomic.Int64
	dev := &countingDevice{Pass: block.Pass{Device: block.FromBytes(bytes.Repeat([]byte{1}, 1<<20))}, reads: &reads}
	s := &Server{Exports: Exports{{Device: dev}}, Limits: Limits{Payload: 1 << 20, ConnBytes: 4 << 20, Bytes: 4 << 20}}
	p := connect(t, s).open(false)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for c := range uint64(100) {
			p.conn.Write(requestBytes(false, cmdRead, 0, c, 0, 1<<20, nil))
		}
	}()
	<-sent // all fit into the socket
	for c := range 100 {
		if got := reads.Load(); got > int64(c)+8 {
			t.Fatalf("%d reads done for %d replies taken", got, c)
		}
		p.read(simpleReplySize + 1<<20)
	}
	p.alive()
}

type countingDevice struct {
	block.Pass
	reads *atomic.Int64
}

func (d *countingDevice) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	d.reads.Add(1)
	return d.Pass.ReadAt(ctx, p, off, flags)
}

func TestGarbageEndsConnection(t *testing.T) {
	t.Parallel()
	p := connect(t, memServer(4096)).open(false)
	p.write(bytes.Repeat([]byte("garbage!"), 10))
	p.gone()
	if err := p.result(); err == nil || err.Error() != "nbd: request starts with 0x67617262, expected 0x25609513" {
		t.Error(err)
	}
	p = connect(t, memServer(4096)).open(false)
	p.write(requestBytes(false, cmdWrite, 0, 1, 0, 4096, make([]byte, 100)))
	p.conn.Close()
	if err := p.result(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

type panickyDevice struct{ block.Pass }

func (panickyDevice) Zero(context.Context, int64, int64, block.Flags) error { panic("boom") }

// A device that panics is a failed request.
func TestPanicIsAnError(t *testing.T) {
	t.Parallel()
	s := &Server{Exports: Exports{{Device: panickyDevice{block.Pass{Device: block.FromBytes(make([]byte, 4096))}}}}}
	p := connect(t, s).open(false)
	if got := p.status(false, cmdWriteZeroes, 0, 0, 4096); got != wireEIO {
		t.Errorf("error %d", got)
	}
	p.alive()
}

func TestBlockStatus(t *testing.T) {
	t.Parallel()
	s := memServer(1 << 20)
	p := connect(t, s).open(true)
	p.send(cmdBlockStatus, 0, 1, 4096, 8192, nil)
	c := p.chunks(1)
	if len(c) != 1 || c[0].kind != chunkBlockStatus || len(c[0].data) != 12 {
		t.Fatalf("%+v", c)
	}
	if n := binary.BigEndian.Uint32(c[0].data[4:]); n != 8192 {
		t.Errorf("extent of %d bytes", n)
	}
	x := connect(t, s).openExtended()
	x.send(cmdBlockStatus, cmdFlagReqOne, 2, 0, 1<<20, nil)
	c = x.chunks(2)
	if len(c) != 1 || c[0].kind != chunkBlockStatusExt || len(c[0].data) != 24 {
		t.Fatalf("%+v", c)
	}
	// The payload chooses contexts.
	payload := binary.BigEndian.AppendUint64(nil, 4096)
	for ids, want := range map[string]uint32{"\x00\x00\x00\x01": 0, "\x00\x00\x00\x09": wireEINVAL, "": wireEINVAL} {
		body := append(bytes.Clone(payload), ids...)
		x.send(cmdBlockStatus, cmdFlagPayloadLen, 3, 0, uint64(len(body)), body)
		if c := x.chunks(3); c[0].code() != want {
			t.Errorf("ids %x: error %d, expected %d", ids, c[0].code(), want)
		}
	}
	x.send(cmdBlockStatus, cmdFlagPayloadLen, 4, 0, 5000, make([]byte, 5000))
	if c := x.chunks(4); c[0].code() != wireEINVAL {
		t.Errorf("long payload: %+v", c)
	}
	x.alive()
}

// Requests of every size arrive whole, in whatever pieces the client sends.
func TestWritesInPieces(t *testing.T) {
	t.Parallel()
	for _, noWait := range []bool{true, false} {
		mem := make([]byte, 4<<20)
		dev := &infoDevice{block.Pass{Device: block.FromBytes(mem)}, func(i *block.Info) { i.NoWait = noWait }}
		p := connect(t, &Server{Exports: Exports{{Device: dev}}}).open(false)
		var stream, want []byte
		off := uint64(0)
		for i, n := range []int{1, 511, 4096, 64 << 10, 65<<10 + 3, 300 << 10, 4096, 1 << 20, 28, 70 << 10, 4096} {
			data := bytes.Repeat([]byte{byte(i + 1)}, n)
			stream = append(stream, requestBytes(false, cmdWrite, 0, uint64(i), off, uint64(n), data)...)
			want = append(want, data...)
			off += uint64(n)
		}
		go func() {
			for step := 1; len(stream) > 0; step = step*5 + 3 {
				if step > 400<<10 {
					step = 13
				}
				n := min(step, len(stream))
				p.conn.Write(stream[:n])
				stream = stream[n:]
			}
		}()
		for range 11 {
			if head := p.read(simpleReplySize); binary.BigEndian.Uint32(head[4:]) != 0 {
				t.Fatalf("write failed: %x", head)
			}
		}
		p.alive()
		if !bytes.Equal(mem[:off], want) {
			t.Errorf("noWait=%v: wrong data", noWait)
		}
	}
}

// A device that cannot go on in the middle of a long write, or fails there,
// gets the rest from a worker, or gets it not at all.
func TestLongWriteChangesHands(t *testing.T) {
	t.Parallel()
	const n = 1 << 20
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i>>7) | 1
	}
	for _, limit := range []int64{0, 4096, 100 << 10, 500 << 10, n} {
		mem := make([]byte, 2*n)
		dev := &partlyDevice{block.Pass{Device: block.FromBytes(mem)}, 512 + limit, block.ErrWouldBlock}
		p := connect(t, &Server{Exports: Exports{{Device: dev}}}).open(false)
		for range 3 {
			p.send(cmdWrite, 0, 1, 512, n, data)
			if code, _ := p.simple(1, 0); code != 0 {
				t.Fatalf("write fails with %d", code)
			}
		}
		if !bytes.Equal(mem[512:512+n], data) {
			t.Errorf("wrong data when it would block at %d", limit)
		}
	}
	dev := &partlyDevice{block.Pass{Device: block.FromBytes(make([]byte, 2*n))}, 300 << 10, block.ErrNoSpace}
	p := connect(t, &Server{Exports: Exports{{Device: dev}}}).open(false)
	p.send(cmdWrite, 0, 1, 0, n, data)
	if code, _ := p.simple(1, 0); code != wireENOSPC {
		t.Errorf("error %d, expected ENOSPC", code)
	}
	p.alive()
}

// partlyDevice fails writes behind an offset that must not wait.
type partlyDevice struct {
	block.Pass
	from int64
	err  error
}

func (d *partlyDevice) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if flags&block.NoWait != 0 && off+int64(len(p)) > d.from {
		return d.err
	}
	return d.Pass.WriteAt(ctx, p, off, flags&^block.NoWait)
}
