package nbd

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
)

// replyCase is a reply to READ of 16 bytes at offset 4096 or to BLOCK_STATUS
// of the 65536 bytes of the export.
type replyCase struct {
	name  string
	form  Replies
	cmd   command
	reply func(r fakeRequest) []byte
	want  string // of the error, or "" for success
}

const done = chunkFlagDone

func data(n int) []byte { return bytes.Repeat([]byte{0xa5}, n) }

func replyCases() []replyCase {
	cases := simpleCases()
	for _, form := range []Replies{StructuredReplies, ExtendedReplies} {
		m := caseMaker{form: form}
		m.reads()
		m.extents()
		cases = append(cases, m.cases...)
	}
	return cases
}

func simpleCases() []replyCase {
	simple := func(code uint32, p []byte) func(fakeRequest) []byte {
		return func(r fakeRequest) []byte { return simpleBytes(r.cookie, code, p) }
	}
	return []replyCase{
		{"plain", SimpleReplies, cmdRead, simple(0, data(16)), ""},
		{"error", SimpleReplies, cmdRead, simple(wireENOSPC, nil), "no space left"},
		{"unknown error", SimpleReplies, cmdRead, simple(4711, nil), "input/output error"},
		{"cut", SimpleReplies, cmdRead, simple(0, data(15)), "in the middle of a payload"},
		{"garbage", SimpleReplies, cmdRead, func(fakeRequest) []byte { return data(200) }, "0xa5a5a5a5 in place of"},
		{"unasked structure", SimpleReplies, cmdRead, func(r fakeRequest) []byte {
			return chunkBytes(StructuredReplies, r, done, chunkNone)
		}, "in place of"},
		{"wrong cookie", SimpleReplies, cmdRead, func(r fakeRequest) []byte {
			return simpleBytes(r.cookie+1<<16, 0, data(16))
		}, "which no request in flight has"},
		{"cookie of nobody", SimpleReplies, cmdRead, func(r fakeRequest) []byte {
			return simpleBytes(r.cookie|0xffff, 0, data(16))
		}, "which no request in flight has"},
		{"simple read", StructuredReplies, cmdRead, simple(0, data(16)), "simple reply to READ"},
		{"simple error", StructuredReplies, cmdRead, simple(wireEPERM, nil), "not permitted"},
		{"simple status", StructuredReplies, cmdBlockStatus, simple(0, nil), "simple reply to BLOCK_STATUS"},
		{"simple extended", ExtendedReplies, cmdRead, simple(0, data(16)), "in place of"},
	}
}

// A caseMaker makes cases of replies in chunks.
type caseMaker struct {
	form  Replies
	cases []replyCase
}

type chunkMaker = func(r fakeRequest) []byte

func (m *caseMaker) add(name, want string, cmd command, chunks ...chunkMaker) {
	m.cases = append(m.cases, replyCase{m.form.String() + " " + name, m.form, cmd, func(r fakeRequest) (p []byte) {
		for _, c := range chunks {
			p = append(p, c(r)...)
		}
		return p
	}, want})
}

func (m *caseMaker) chunk(flags, kind uint16, parts ...[]byte) chunkMaker {
	return func(r fakeRequest) []byte { return chunkBytes(m.form, r, flags, kind, parts...) }
}

func (m *caseMaker) reads() {
	chunk := m.chunk
	read := func(name, want string, chunks ...chunkMaker) { m.add(name, want, cmdRead, chunks...) }
	whole := chunk(done, chunkOffsetData, be64(4096), data(16))
	read("whole", "", whole)
	read("parts", "", chunk(0, chunkOffsetData, be64(4104), data(8)), chunk(0, chunkOffsetData, be64(4096), data(4)),
		chunk(0, chunkOffsetHole, be64(4100), be32(4)), chunk(done, chunkNone))
	read("hole", "", chunk(done, chunkOffsetHole, be64(4096), be32(16)))
	read("missing", "does not have all", chunk(done, chunkOffsetData, be64(4096), data(15)))
	read("nothing", "does not have all", chunk(done, chunkNone))
	read("twice", "come twice", chunk(0, chunkOffsetData, be64(4096), data(9)), chunk(done, chunkOffsetData, be64(4104), data(8)))
	read("before", "bytes for offset 4095", chunk(done, chunkOffsetData, be64(4095), data(16)))
	read("behind", "bytes for offset 4097", chunk(done, chunkOffsetData, be64(4097), data(16)))
	read("wrapping", "bytes for offset 18446744073709551615", chunk(done, chunkOffsetData, be64(1<<64-1), data(16)))
	read("too long", "data chunk of 25 bytes", chunk(done, chunkOffsetData, be64(4096), data(17)))
	read("empty", "data chunk of 8 bytes", chunk(done, chunkOffsetData, be64(4096)))
	read("empty hole", "0 bytes for offset", chunk(done, chunkOffsetHole, be64(4096), be32(0)))
	read("long hole", "4294967295 bytes for offset", chunk(done, chunkOffsetHole, be64(4096), be32(1<<32-1)))
	read("hole with data", "hole chunk has 13 bytes", chunk(done, chunkOffsetHole, be64(4096), be32(1), data(1)))
	read("none with data", "chunk of no type with 1 bytes", chunk(done, chunkNone, data(1)))
	read("none that is not the last", "chunk of no type", chunk(0, chunkNone))
	read("unknown", "chunk of type 77", chunk(done, 77))
	read("status", "chunk of type 5", chunk(done, chunkBlockStatus, be32(7), be32(1), be32(0)))
	read("error with text", `no space left on device; the server says "full?"`, chunk(done, chunkError, be32(wireENOSPC), be16(5), []byte("full\x07")))
	read("error at offset", "failed at offset 4100", chunk(0, chunkOffsetData, be64(4096), data(4)),
		chunk(0, chunkErrorOffset, be32(wireEIO), be16(0), be64(4100)), chunk(done, chunkNone))
	read("error of a new kind", "input/output error", chunk(done, 1<<15+99, be32(wireEIO), be16(0), data(3)))
	read("error outside", "error at offset 4112", chunk(done, chunkErrorOffset, be32(wireEIO), be16(0), be64(4112)))
	read("error that is none", "error chunk without an error", chunk(done, chunkError, be32(0), be16(0)))
	read("long text", "error text of 9 bytes", chunk(done, chunkError, be32(5), be16(9), data(8)))
	read("short text", "behind its text", chunk(done, chunkError, be32(5), be16(7), data(8)))
	read("error without offset", "for its offset", chunk(done, chunkErrorOffset, be32(5), be16(0)))
	read("short error", "error chunk of 5 bytes", chunk(done, chunkError, be32(5), data(1)))
	read("huge error", "error chunk of 10000 bytes", chunk(done, chunkError, data(10000)))
	m.add("write with data", "chunk of type 1", cmdWrite, whole)
	m.add("write", "", cmdWrite, chunk(done, chunkNone))
	m.add("write with error", "not permitted", cmdWrite, chunk(done, chunkError, be32(wireEPERM), be16(0)))
}

func (m *caseMaker) extents() {
	chunk, form := m.chunk, m.form
	status := func(name, want string, chunks ...chunkMaker) { m.add(name, want, cmdBlockStatus, chunks...) }
	kind := chunkBlockStatus
	extents := func(flags uint16, id uint32, pairs ...uint64) func(fakeRequest) []byte {
		p := be32(id)
		if form == ExtendedReplies {
			kind = chunkBlockStatusExt
			p = append(p, be32(uint32(len(pairs)/2))...)
		}
		for _, n := range pairs {
			if form == ExtendedReplies {
				p = append(p, be64(n)...)
			} else {
				p = append(p, be32(uint32(n))...)
			}
		}
		return chunk(flags, kind, p)
	}
	status("extents", "", extents(done, 7, 65536, 3))
	status("several extents", "", extents(done, 7, 1, 0, 65535, 3))
	status("no extents", "block status chunk of", extents(done, 7))
	status("missing extents", `no extents of "base:allocation"`, chunk(done, chunkNone))
	status("other context", "metadata context 8", extents(done, 8, 1, 0))
	status("extents twice", "come twice", extents(0, 7, 1, 0), extents(done, 7, 1, 0))
	status("empty extent", "empty extent at offset 1", extents(done, 7, 1, 0, 0, 0))
	status("extent too long", "beyond the end", extents(done, 7, 65535, 0, 2, 0))
	status("extent behind", "beyond the end", extents(done, 7, 65536, 0, 1, 0))
	status("odd chunk", "block status chunk of", chunk(done, kind, data(17)))
	if form == ExtendedReplies {
		status("wrong count", "with 3 extents", chunk(done, kind, be32(7), be32(3), be64(1), be64(0)))
		m.add("wrong offset", "chunk for offset 4097", cmdRead, func(r fakeRequest) []byte {
			r.off++
			return chunkBytes(form, r, done, chunkOffsetData, be64(4096), data(16))
		})
	}
}

// issueCase carries out the request of a case.
func issueCase(ctx context.Context, c *Client, cmd command) ([]byte, error) {
	p := make([]byte, 16)
	switch cmd {
	case cmdRead:
		return p, c.ReadAt(ctx, p, 4096, 0)
	case cmdWrite:
		return nil, c.WriteAt(ctx, p, 4096, 0)
	}
	for e, err := range c.Extents(ctx, block.Allocation, 0, 65536) {
		if err != nil {
			return nil, err
		}
		if e.Len <= 0 {
			return nil, errors.New("an empty extent came out")
		}
	}
	return nil, nil
}

func TestClientReplies(t *testing.T) {
	t.Parallel()
	for _, test := range replyCases() {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := &fakeServer{t: t, form: test.form, size: 65536, flags: fakeFlags}
			f.serve = func(c *fakeConn, _ int) {
				if r, ok := c.request(); ok {
					c.Write(test.reply(r))
				}
			}
			c := dialTest(t, f.dialer(), "nbd:///")
			p, err := issueCase(t.Context(), c, test.cmd)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if strings.HasSuffix(test.name, "whole") && !bytes.Equal(p, data(16)) {
				t.Errorf("got %x", p)
			}
			if strings.HasSuffix(test.name, "parts") && !bytes.Equal(p, slices.Concat(data(4), make([]byte, 4), data(8))) {
				t.Errorf("got %x", p)
			}
			if strings.Contains(test.want, "offset 4095") && !errors.Is(err, block.ErrIO) {
				t.Errorf("%v has not the meaning of ErrIO", err)
			}
		})
	}
}

// A reply that ends at any byte is an error, and never a wait or a success.
func TestClientRepliesCut(t *testing.T) {
	t.Parallel()
	for _, test := range replyCases() {
		if test.want != "" {
			continue
		}
		whole := len(test.reply(fakeRequest{off: 4096, n: 16}))
		for n := range whole {
			f := &fakeServer{t: t, form: test.form, size: 65536, flags: fakeFlags}
			f.serve = func(c *fakeConn, _ int) {
				if r, ok := c.request(); ok {
					c.Write(test.reply(r)[:n])
				}
			}
			c, err := f.dialer().Dial(t.Context(), "nbd:///")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := issueCase(t.Context(), c, test.cmd); err == nil || !errors.Is(err, block.ErrIO) {
				t.Errorf("%s cut at %d of %d: %v", test.name, n, whole, err)
			}
			c.Close()
		}
	}
}

// Replies may come in any order.
func TestClientOutOfOrder(t *testing.T) {
	t.Parallel()
	const n = 50
	f := &fakeServer{t: t, form: SimpleReplies, size: 65536, flags: fakeFlags}
	f.serve = func(c *fakeConn, _ int) {
		var all []fakeRequest
		for len(all) < n {
			r, ok := c.request()
			if !ok {
				return
			}
			all = append(all, r)
		}
		slices.Reverse(all)
		for _, r := range all {
			c.Write(simpleBytes(r.cookie, 0, bytes.Repeat([]byte{byte(r.off)}, int(r.n))))
		}
		c.request()
	}
	c := dialTest(t, f.dialer(), "nbd:///")
	errs := make(chan error, n)
	for i := range n {
		go func() {
			p := make([]byte, 100)
			err := c.ReadAt(t.Context(), p, int64(i), 0)
			if err == nil && !bytes.Equal(p, bytes.Repeat([]byte{byte(i)}, 100)) {
				err = errors.New("wrong bytes")
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// FuzzReply gives the client anything in reply to its requests.
func FuzzReply(f *testing.F) {
	for _, c := range replyCases() {
		// The first request has the first cookie.
		f.Add(byte(c.form), byte(c.cmd), c.reply(fakeRequest{cookie: 1 << 16, off: 4096, n: 16}))
	}
	f.Fuzz(func(t *testing.T, form, cmd byte, reply []byte) {
		s := &fakeServer{t: t, form: Replies(form % 3), size: 65536, flags: fakeFlags}
		s.serve = func(c *fakeConn, _ int) {
			if _, ok := c.request(); ok {
				c.Write(reply)
			}
		}
		c, err := s.dialer().Dial(t.Context(), "nbd:///")
		if err != nil {
			t.Fatal(err)
		}
		issueCase(t.Context(), c, []command{cmdRead, cmdWrite, cmdBlockStatus}[cmd%3])
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// handshakes are what a server says up to the transmission.
func handshakes() map[string][]byte {
	hello := slices.Concat(be64(magicInit), be64(magicOption), be16(3))
	export := slices.Concat(be16(0), be64(65536), be16(fakeFlags))
	unsup := slices.Concat(optionReplyBytes(optExtendedHeaders, repErrUnsup, nil), optionReplyBytes(optStructuredReply, repErrUnsup, nil))
	return map[string][]byte{
		"oldstyle":   slices.Concat(be64(magicInit), be64(magicOldstyle), be64(65536), be32(uint32(fakeFlags)), make([]byte, 124)),
		"newstyle":   slices.Concat(be64(magicInit), be64(magicOption), be16(0), be64(65536), be16(fakeFlags), make([]byte, 124)),
		"without go": slices.Concat(hello, unsup, optionReplyBytes(optGo, repErrUnsup, nil), be64(65536), be16(fakeFlags)),
		"simple":     slices.Concat(hello, unsup, optionReplyBytes(optGo, repInfo, export), optionReplyBytes(optGo, repAck, nil)),
		"structured": slices.Concat(hello, optionReplyBytes(optExtendedHeaders, repErrUnsup, []byte("what?")), optionReplyBytes(optStructuredReply, repAck, nil),
			optionReplyBytes(optSetMetaContext, repMetaContext, append(be32(1), "base:allocation"...)), optionReplyBytes(optSetMetaContext, repAck, nil),
			optionReplyBytes(optGo, repInfo, export), optionReplyBytes(optGo, repInfo, slices.Concat(be16(3), be32(512), be32(4096), be32(1<<20))),
			optionReplyBytes(optGo, repInfo, append(be16(1), "vm"...)), optionReplyBytes(optGo, repInfo, append(be16(99), "?"...)), optionReplyBytes(optGo, repAck, nil)),
		"extended": slices.Concat(hello, optionReplyBytes(optExtendedHeaders, repAck, nil), optionReplyBytes(optSetMetaContext, repErrUnsup, nil),
			optionReplyBytes(optGo, repInfo, export), optionReplyBytes(optGo, repAck, nil)),
	}
}

func TestClientHandshakes(t *testing.T) {
	t.Parallel()
	for name, script := range handshakes() {
		if _, err := dialScript(t, "nbd:///", script); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for n := range script {
			if _, err := dialScript(t, "nbd:///", script[:n]); err == nil {
				t.Errorf("%s: cut at %d of %d succeeds", name, n, len(script))
			}
		}
	}
}

func TestClientHandshakeErrors(t *testing.T) {
	t.Parallel()
	hello := slices.Concat(be64(magicInit), be64(magicOption), be16(3))
	unsup := slices.Concat(hello, optionReplyBytes(optExtendedHeaders, repErrUnsup, nil), optionReplyBytes(optStructuredReply, repErrUnsup, nil))
	contexts := slices.Concat(hello, optionReplyBytes(optExtendedHeaders, repAck, nil))
	mc := func(id uint32, name string) []byte {
		return optionReplyBytes(optSetMetaContext, repMetaContext, append(be32(id), name...))
	}
	info := func(parts ...[]byte) []byte {
		return slices.Concat(unsup, optionReplyBytes(optGo, repInfo, slices.Concat(parts...)))
	}
	sizes := func(a, b, c uint32) []byte { return info(be16(3), be32(a), be32(b), be32(c)) }
	for want, script := range map[string][]byte{
		"closed the connection":            nil,
		"this is no NBD server":            []byte("HTTP/1.1 400 Bad Request"),
		"no known style":                   slices.Concat(be64(magicInit), be64(1)),
		"not with 0x3e889045565a9":         slices.Concat(hello, data(20)),
		"expected one to NBD_OPT_EXTENDED": slices.Concat(hello, optionReplyBytes(optGo, repAck, nil)),
		"4294967295 bytes":                 slices.Concat(hello, optionReplyBytes(optExtendedHeaders, repAck, nil)[:16], be32(1<<32-1)),
		"NBD_REP_ACK with 1 bytes":         slices.Concat(hello, optionReplyBytes(optExtendedHeaders, repAck, data(1))),
		"NBD_REP_SERVER to":                slices.Concat(hello, optionReplyBytes(optExtendedHeaders, repServer, nil)),
		"error text of 5000 bytes":         slices.Concat(hello, optionReplyBytes(optExtendedHeaders, repErrUnsup, data(5000))),
		"nbds://":                          slices.Concat(hello, optionReplyBytes(optExtendedHeaders, repErrTLSRequired, nil)),
		"the server has no":                slices.Concat(unsup, optionReplyBytes(optGo, repErrUnknown, []byte("no\n"))),
		"without NBD_INFO_EXPORT":          slices.Concat(unsup, optionReplyBytes(optGo, repAck, nil)),
		"NBD_INFO_EXPORT has 9 bytes":      info(be16(0), data(9)),
		"NBD_INFO_BLOCK_SIZE has 11 bytes": info(be16(3), data(11)),
		"NBD_REP_INFO of 1 bytes":          info(data(1)),
		"more than can be addressed":       info(be16(0), be64(1<<63), be16(1)),
		"minimum block size 0":             sizes(0, 4096, 4096),
		"minimum block size 3":             sizes(3, 4096, 4096),
		"minimum block size 131072":        sizes(131072, 1<<20, 1<<20),
		"preferred block size 5000":        sizes(512, 5000, 1<<20),
		"preferred block size 512 is":      sizes(4096, 512, 1<<20),
		"maximum block size 511":           sizes(512, 4096, 511),
		"not a multiple of its minimum":    slices.Concat(sizes(4096, 4096, 1<<20), optionReplyBytes(optGo, repInfo, slices.Concat(be16(0), be64(5000), be16(1))), optionReplyBytes(optGo, repAck, nil)),
		"export name of 4097 bytes":        info(be16(1), data(4097)),
		"description contains a NUL":       info(be16(2), make([]byte, 3)),
		"NBD_REP_META_CONTEXT of 4 bytes":  slices.Concat(contexts, optionReplyBytes(optSetMetaContext, repMetaContext, be32(1))),
		"with id 1 after":                  slices.Concat(contexts, mc(1, "a:b"), mc(1, "a:c")),
		`"a:b" with id 2 after`:            slices.Concat(contexts, mc(1, "a:b"), mc(2, "a:b")),
		"more than 256 replies":            slices.Concat(unsup, bytes.Repeat(optionReplyBytes(optGo, repInfo, be16(9)), 257)),
		"which the server may not have":    slices.Concat(unsup, optionReplyBytes(optGo, repErrUnsup, nil)),
	} {
		if _, err := dialScript(t, "nbd:///", script); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

// FuzzNegotiateClient gives the client any handshake.
func FuzzNegotiateClient(f *testing.F) {
	for _, script := range handshakes() {
		f.Add(script, "nbd:///")
		f.Add(script, "nbds:///vm")
	}
	f.Fuzz(func(t *testing.T, script []byte, uri string) {
		if u, err := ParseURI(uri); err != nil || u.TLSCertificates != "" {
			return // no files of the machine that tests
		}
		dialScript(t, uri, script)
		conn := &scriptConn{out: bytes.NewReader(script)}
		d := &Dialer{Connect: func(context.Context) (net.Conn, error) { return conn, nil }}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		d.Connect = func(context.Context) (net.Conn, error) {
			if conn == nil {
				cancel()
				return nil, ctx.Err()
			}
			c := conn
			conn = nil
			return c, nil
		}
		d.List(ctx, uri)
	})
}
