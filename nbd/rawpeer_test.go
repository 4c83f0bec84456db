package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
)

// A rawPeer is a client that says exactly what a test wants, right or wrong.
type rawPeer struct {
	t        testing.TB
	conn     net.Conn
	done     chan error // what ServeConn returned
	extended bool
}

// connect returns a client of s that has not said anything yet.
func connect(t testing.TB, s *Server) *rawPeer {
	t.Helper()
	mine, theirs := socketPair(t)
	p := &rawPeer{t: t, conn: mine, done: make(chan error, 1)}
	go func() { p.done <- s.ServeConn(context.Background(), theirs) }()
	t.Cleanup(func() { mine.Close() })
	mine.SetDeadline(time.Now().Add(20 * time.Second))
	return p
}

// socketPair returns both ends of a Unix stream.
func socketPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conns := [2]net.Conn{}
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return conns[0], conns[1]
}

func (p *rawPeer) write(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

func (p *rawPeer) read(n int) []byte {
	p.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(p.conn, b); err != nil {
		p.t.Fatalf("read of %d bytes: %v", n, err)
	}
	return b
}

// greet answers the server's greeting with client flags.
func (p *rawPeer) greet(flags uint32) *rawPeer {
	p.t.Helper()
	hello := p.read(18)
	if m := binary.BigEndian.Uint64(hello); m != magicInit {
		p.t.Fatalf("greeting starts with %#x", m)
	}
	if m := binary.BigEndian.Uint64(hello[8:]); m != magicOption {
		p.t.Fatalf("greeting goes on with %#x", m)
	}
	if f := binary.BigEndian.Uint16(hello[16:]); f != flagFixedNewstyle|flagNoZeroes {
		p.t.Fatalf("handshake flags %#x", f)
	}
	p.write(binary.BigEndian.AppendUint32(nil, flags))
	return p
}

// hello greets as modern clients do.
func (p *rawPeer) hello() *rawPeer {
	p.t.Helper()
	return p.greet(uint32(flagFixedNewstyle | flagNoZeroes))
}

func optionBytes(opt option, data []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, magicOption)
	b = binary.BigEndian.AppendUint32(b, uint32(opt))
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// An optionReply is one answer to an option.
type optionReply struct {
	code replyCode
	data []byte
}

// reply reads one answer to opt.
func (p *rawPeer) reply(opt option) optionReply {
	p.t.Helper()
	head := p.read(20)
	if m := binary.BigEndian.Uint64(head); m != magicOptReply {
		p.t.Fatalf("option reply starts with %#x", m)
	}
	if o := option(binary.BigEndian.Uint32(head[8:])); o != opt {
		p.t.Fatalf("reply to %v, expected one to %v", o, opt)
	}
	return optionReply{replyCode(binary.BigEndian.Uint32(head[12:])), p.read(int(binary.BigEndian.Uint32(head[16:])))}
}

// option sends an option and returns all answers, of which the last is ACK or
// an error.
func (p *rawPeer) option(opt option, data []byte) []optionReply {
	p.t.Helper()
	p.write(optionBytes(opt, data))
	var all []optionReply
	for {
		r := p.reply(opt)
		all = append(all, r)
		if r.code == repAck || r.code&repError != 0 {
			return all
		}
	}
}

// expect sends an option and wants the last answer to be code.
func (p *rawPeer) expect(code replyCode, opt option, data []byte) []optionReply {
	p.t.Helper()
	all := p.option(opt, data)
	if last := all[len(all)-1]; last.code != code {
		p.t.Fatalf("%v answered %v %q, expected %v", opt, last.code, last.data, code)
	}
	return all
}

func infoData(name string, wanted ...infoType) []byte {
	b := appendString(nil, name)
	b = binary.BigEndian.AppendUint16(b, uint16(len(wanted)))
	for _, w := range wanted {
		b = binary.BigEndian.AppendUint16(b, uint16(w))
	}
	return b
}

func queryData(name string, queries ...string) []byte {
	b := appendString(nil, name)
	b = binary.BigEndian.AppendUint32(b, uint32(len(queries)))
	for _, q := range queries {
		b = appendString(b, q)
	}
	return b
}

// open goes into transmission with the export named "", with structured
// replies and base:allocation or not.
func (p *rawPeer) open(structured bool) *rawPeer {
	p.t.Helper()
	p.hello()
	if structured {
		p.expect(repAck, optStructuredReply, nil)
		p.expect(repAck, optSetMetaContext, queryData("", block.Allocation))
	}
	p.expect(repAck, optGo, infoData(""))
	return p
}

// openExtended goes into transmission with extended headers.
func (p *rawPeer) openExtended() *rawPeer {
	p.t.Helper()
	p.hello()
	p.expect(repAck, optExtendedHeaders, nil)
	p.expect(repAck, optSetMetaContext, queryData("", block.Allocation))
	p.expect(repAck, optGo, infoData(""))
	p.extended = true
	return p
}

// send sends a request. In the compact form length is that of the payload if
// there is one.
func (p *rawPeer) send(cmd command, flags uint16, cookie, off, length uint64, payload []byte) {
	p.t.Helper()
	p.write(requestBytes(p.extended, cmd, flags, cookie, off, length, payload))
}

func requestBytes(extended bool, cmd command, flags uint16, cookie, off, length uint64, payload []byte) []byte {
	var b []byte
	if extended {
		b = binary.BigEndian.AppendUint32(b, magicExtendedRequest)
	} else {
		b = binary.BigEndian.AppendUint32(b, magicRequest)
	}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, uint16(cmd))
	b = binary.BigEndian.AppendUint64(b, cookie)
	b = binary.BigEndian.AppendUint64(b, off)
	if extended {
		b = binary.BigEndian.AppendUint64(b, length)
	} else {
		b = binary.BigEndian.AppendUint32(b, uint32(length))
	}
	return append(b, payload...)
}

// simple reads a simple reply with n bytes of data if it is no error.
func (p *rawPeer) simple(cookie uint64, n int) (code uint32, data []byte) {
	p.t.Helper()
	head := p.read(simpleReplySize)
	if m := binary.BigEndian.Uint32(head); m != magicSimpleReply {
		p.t.Fatalf("reply starts with %#x, expected a simple one", m)
	}
	if c := binary.BigEndian.Uint64(head[8:]); c != cookie {
		p.t.Fatalf("reply has cookie %d, expected %d", c, cookie)
	}
	if code = binary.BigEndian.Uint32(head[4:]); code == 0 {
		data = p.read(n)
	}
	return code, data
}

// A chunk is a part of a structured reply.
type chunk struct {
	flags, kind uint16
	data        []byte
}

// code is the error of an error chunk, 0 for others.
func (c chunk) code() uint32 {
	if c.kind&(1<<15) == 0 {
		return 0
	}
	return binary.BigEndian.Uint32(c.data)
}

// chunks reads a whole structured or extended reply.
func (p *rawPeer) chunks(cookie uint64) []chunk {
	p.t.Helper()
	var all []chunk
	for {
		c, got := p.chunk()
		if got != cookie {
			p.t.Fatalf("chunk has cookie %d, expected %d", got, cookie)
		}
		all = append(all, c)
		if c.flags&chunkFlagDone != 0 {
			return all
		}
	}
}

func (p *rawPeer) chunk() (c chunk, cookie uint64) {
	p.t.Helper()
	want, size := magicStructuredReply, structuredReplySize
	if p.extended {
		want, size = magicExtendedReply, extendedReplySize
	}
	head := p.read(size)
	if m := binary.BigEndian.Uint32(head); m != want {
		p.t.Fatalf("reply starts with %#x, expected %#x", m, want)
	}
	n := uint64(binary.BigEndian.Uint32(head[16:]))
	if p.extended {
		n = binary.BigEndian.Uint64(head[24:])
	}
	return chunk{binary.BigEndian.Uint16(head[4:]), binary.BigEndian.Uint16(head[6:]), p.read(int(n))},
		binary.BigEndian.Uint64(head[8:])
}

// status sends a request without payload and returns the error of its reply.
func (p *rawPeer) status(structured bool, cmd command, flags uint16, off, length uint64) uint32 {
	p.t.Helper()
	const cookie = 0x1122334455667788
	p.send(cmd, flags, cookie, off, length, nil)
	return p.outcome(structured, cmd, cookie, length)
}

// outcome reads the reply to a request, of the kind that it must have, and
// returns its error. With structured replies errors always have a text.
func (p *rawPeer) outcome(structured bool, cmd command, cookie, length uint64) uint32 {
	p.t.Helper()
	if p.extended || structured && (cmd == cmdRead || cmd == cmdBlockStatus) {
		all := p.chunks(cookie)
		return all[len(all)-1].code()
	}
	magic := p.read(4)
	p.unread(magic)
	if structured && binary.BigEndian.Uint32(magic) == magicStructuredReply {
		all := p.chunks(cookie)
		if len(all) != 1 || all[0].code() == 0 {
			p.t.Fatalf("%v answered by chunks %+v", cmd, all)
		}
		return all[0].code()
	}
	n := 0
	if cmd == cmdRead {
		n = int(length)
	}
	code, _ := p.simple(cookie, n)
	return code
}

// unread makes b the next bytes that are read.
func (p *rawPeer) unread(b []byte) {
	p.conn = &unreadConn{p.conn, bytes.NewReader(b)}
}

type unreadConn struct {
	net.Conn
	first *bytes.Reader
}

func (c *unreadConn) Read(p []byte) (int, error) {
	if c.first.Len() > 0 {
		return c.first.Read(p)
	}
	return c.Conn.Read(p)
}

// alive checks that the connection still works and is in step.
func (p *rawPeer) alive() {
	p.t.Helper()
	const cookie = 0x616c697665
	p.send(cmdFlush, 0, cookie, 0, 0, nil)
	if p.extended {
		if all := p.chunks(cookie); len(all) != 1 || all[0].kind != chunkNone {
			p.t.Fatalf("FLUSH answered %+v", all)
		}
		return
	}
	if code, _ := p.simple(cookie, 0); code != 0 {
		p.t.Fatalf("FLUSH answered %d", code)
	}
}

// gone checks that the server closes the connection without another word.
func (p *rawPeer) gone() {
	p.t.Helper()
	rest, err := io.ReadAll(p.conn)
	if len(rest) > 0 {
		p.t.Fatalf("server says %q, expected it to hang up", rest)
	}
	if err != nil && !bytes.Contains([]byte(err.Error()), []byte("reset")) {
		p.t.Fatalf("server does not hang up: %v", err)
	}
}

// result waits for ServeConn and returns its error.
func (p *rawPeer) result() error {
	p.t.Helper()
	select {
	case err := <-p.done:
		return err
	case <-time.After(20 * time.Second):
		p.t.Fatal("ServeConn does not return")
		return nil
	}
}

// memServer serves size bytes, each with a value made of its offset.
func memServer(size int) *Server {
	mem := make([]byte, size)
	for i := range mem {
		mem[i] = byte(i>>9) | 1
	}
	return &Server{Exports: Exports{{Name: "disk", Description: "a disk", Device: block.FromBytes(mem)}}}
}
