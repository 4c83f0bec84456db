package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block"
)

func TestUnknownClientFlagEndsConnection(t *testing.T) {
	t.Parallel()
	for _, flags := range []uint32{1 << 2, 1 << 31, 7} {
		p := connect(t, memServer(4096)).greet(flags)
		p.gone()
		if err := p.result(); err == nil || !strings.Contains(err.Error(), "not offered") {
			t.Errorf("flags %#x: %v", flags, err)
		}
	}
}

func TestAbortIsAcknowledged(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*Server{
		"plain":        memServer(4096),
		"TLS required": {TLS: TLSRequired, TLSConfig: testTLS(t)},
	} {
		for _, data := range [][]byte{nil, []byte("data"), make([]byte, maxOption+1)} {
			t.Run(fmt.Sprintf("%s with %d bytes", name, len(data)), func(t *testing.T) {
				p := connect(t, s).hello()
				p.expect(repAck, optAbort, data)
				p.gone()
				if err := p.result(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// The length of an option is authoritative: whatever is inside, the server
// stays in step and refuses what does not fit.
func TestOptionLengthIsAuthoritative(t *testing.T) {
	t.Parallel()
	name := appendString(nil, "")
	huge := binary.BigEndian.AppendUint32(nil, 1<<32-1)
	tests := []struct {
		what string
		opt  option
		data []byte
	}{
		{"LIST with data", optList, []byte{0}},
		{"STRUCTURED_REPLY with data", optStructuredReply, []byte("xx")},
		{"EXTENDED_HEADERS with data", optExtendedHeaders, make([]byte, 70)},
		{"STARTTLS with data", optStartTLS, []byte{1}},
		{"GO without data", optGo, nil},
		{"GO with half a length", optGo, []byte{0, 0}},
		{"GO with a name longer than the option", optGo, append(huge, "abc"...)},
		{"GO without a count", optGo, name},
		{"GO with too few requests", optGo, append(slices.Clone(name), 0, 3, 0, 0)},
		{"GO with too much data", optGo, append(infoData(""), 0)},
		{"GO with another option behind", optGo, append(infoData(""), optionBytes(optList, nil)...)},
		{"INFO with too much data", optInfo, append(infoData("", infoName), 9, 9, 9)},
		{"INFO with a NUL in the name", optInfo, infoData("a\x00b")},
		{"INFO with a name that is not UTF-8", optInfo, infoData("a\xff")},
		{"INFO with a name of 4097 bytes", optInfo, infoData(strings.Repeat("x", 4097))},
		{"LIST_META_CONTEXT without data", optListMetaContext, nil},
		{"LIST_META_CONTEXT with too many queries", optListMetaContext, append(slices.Clone(name), huge...)},
		{"LIST_META_CONTEXT with trailing bytes", optListMetaContext, append(queryData(""), 0)},
		{"SET_META_CONTEXT with a query past the end", optSetMetaContext, append(append(slices.Clone(name), 0, 0, 0, 1), huge...)},
		{"SET_META_CONTEXT with trailing bytes", optSetMetaContext, append(queryData("", "base:allocation"), "trailing"...)},
		{"SET_META_CONTEXT with a query without namespace", optSetMetaContext, queryData("", "allocation")},
	}
	p := connect(t, memServer(4096)).hello()
	p.expect(repAck, optStructuredReply, nil)
	for _, tt := range tests {
		all := p.option(tt.opt, tt.data)
		if len(all) != 1 || all[0].code != repErrInvalid {
			t.Errorf("%s: %v, expected one %v", tt.what, all, repErrInvalid)
		}
	}
	p.expect(repAck, optGo, infoData(""))
	p.alive()
}

func TestUnknownOptionKeepsInStep(t *testing.T) {
	t.Parallel()
	p := connect(t, memServer(4096)).hello()
	for _, opt := range []option{0, 4, 12, 1 << 31, 1<<32 - 1} {
		for _, n := range []int{0, 1, 64 << 10, maxOption} {
			p.expect(repErrUnsup, opt, make([]byte, n))
		}
		go p.conn.Write(optionBytes(opt, make([]byte, maxOption+1)))
		if r := p.reply(opt); r.code != repErrTooBig {
			t.Fatalf("too long an option answered %v", r.code)
		}
	}
	p.expect(repAck, optList, nil)
	// Nothing of what is announced is allocated or waited for.
	announce := optionBytes(99, nil)
	binary.BigEndian.PutUint32(announce[12:], 1<<32-1)
	p.write(announce)
	if r := p.reply(99); r.code != repErrTooBig {
		t.Fatalf("4 GiB of option answered %v", r.code)
	}
	p.gone()
}

func TestExportNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 2048)
	dev := block.FromBytes(make([]byte, 4096))
	s := &Server{Exports: Exports{{Name: "", Device: dev}, {Name: long, Device: dev}, {Name: "a/b?c d", Device: dev}}}
	p := connect(t, s).hello()
	for _, name := range []string{"", long, "a/b?c d"} {
		p.expect(repAck, optInfo, infoData(name))
	}
	p.expect(repErrUnknown, optInfo, infoData("nobody"))
	p.expect(repErrUnknown, optGo, infoData("nobody"))
	var names []string
	for _, r := range p.expect(repAck, optList, nil) {
		if r.code == repServer {
			n := binary.BigEndian.Uint32(r.data)
			names = append(names, string(r.data[4:4+n]))
		}
	}
	if want := []string{"", long, "a/b?c d"}; !slices.Equal(names, want) {
		t.Errorf("LIST names %q", names)
	}
}

func TestExportNameOption(t *testing.T) {
	t.Parallel()
	for _, noZeroes := range []bool{false, true} {
		for _, fixed := range []bool{false, true} {
			t.Run(fmt.Sprintf("fixed=%v noZeroes=%v", fixed, noZeroes), func(t *testing.T) {
				flags, tail := uint32(0), exportNameReplyZeroes
				if fixed {
					flags |= uint32(flagFixedNewstyle)
				}
				if noZeroes {
					flags, tail = flags|uint32(flagNoZeroes), 0
				}
				p := connect(t, memServer(8192)).greet(flags)
				p.write(optionBytes(optExportName, []byte("disk")))
				got := p.read(10 + tail)
				if size := binary.BigEndian.Uint64(got); size != 8192 {
					t.Errorf("size %d", size)
				}
				if !bytes.Equal(got[10:], make([]byte, tail)) {
					t.Errorf("padding %x", got[10:])
				}
				p.alive()
			})
		}
	}
	for what, option := range map[string][]byte{
		"unknown name":       optionBytes(optExportName, []byte("nobody")),
		"too long":           optionBytes(optExportName, make([]byte, 4097)),
		"NUL":                optionBytes(optExportName, []byte("a\x00")),
		"a different option": optionBytes(optList, nil),
	} {
		p := connect(t, memServer(4096)).greet(0)
		p.write(option)
		p.gone()
		if err := p.result(); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

// INFO and GO with the same parameters tell the same.
func TestInfoAndGoAgree(t *testing.T) {
	t.Parallel()
	p := connect(t, memServer(12345)).hello()
	ask := infoData("", infoName, infoDescription, infoBlockSize, 77)
	first := p.expect(repAck, optInfo, ask)
	second := p.expect(repAck, optGo, ask)
	if len(first) != 5 || len(first) != len(second) {
		t.Fatalf("INFO gives %d answers, GO %d", len(first), len(second))
	}
	for i := range first {
		if !bytes.Equal(first[i].data, second[i].data) {
			t.Errorf("INFO says %x, GO %x", first[i].data, second[i].data)
		}
	}
	p.alive()
}

func TestBlockSizes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		info                     block.Info
		smallest, preferred, max uint32
	}{
		{block.Info{}, 1, 4096, 32 << 20},
		{block.Info{MinBlock: 512}, 512, 4096, 32 << 20},
		{block.Info{MinBlock: 64 << 10}, 64 << 10, 64 << 10, 32 << 20},
		{block.Info{PreferredBlock: 512}, 1, 512, 32 << 20},
		{block.Info{PreferredBlock: 1 << 20, MaxBlock: 4 << 20}, 1, 1 << 20, 4 << 20},
		{block.Info{MaxBlock: 3 << 20}, 1, 4096, 2 << 20},
		{block.Info{PreferredBlock: 1 << 30}, 1, 32 << 20, 32 << 20},
		{block.Info{MaxBlock: 2048}, 1, 2048, 2048},
		{block.Info{PreferredBlock: 64 << 10, MaxBlock: 40 << 10}, 1, 32 << 10, 32 << 10},
	}
	for _, tt := range tests {
		b := blockSizeInfo(&tt.info, 32<<20)
		got := [3]uint32{binary.BigEndian.Uint32(b[2:]), binary.BigEndian.Uint32(b[6:]), binary.BigEndian.Uint32(b[10:])}
		if want := [3]uint32{tt.smallest, tt.preferred, tt.max}; got != want {
			t.Errorf("%+v: %v, expected %v", tt.info, got, want)
		}
	}
}

func TestMetaContextSelection(t *testing.T) {
	t.Parallel()
	const structured = true
	start := func(t *testing.T) *rawPeer {
		p := connect(t, memServer(4096)).hello()
		p.expect(repAck, optStructuredReply, nil)
		return p
	}
	finish := func(p *rawPeer, name string, want uint32) {
		p.t.Helper()
		p.expect(repAck, optGo, infoData(name))
		if code := p.status(structured, cmdBlockStatus, 0, 0, 4096); code != want {
			p.t.Errorf("BLOCK_STATUS gives error %d, expected %d", code, want)
		}
		p.alive()
	}
	t.Run("needs structured replies", func(t *testing.T) {
		p := connect(t, memServer(4096)).hello()
		p.expect(repErrInvalid, optSetMetaContext, queryData("", "base:allocation"))
		p.expect(repAck, optListMetaContext, queryData(""))
	})
	t.Run("selects", func(t *testing.T) {
		p := start(t)
		if all := p.expect(repAck, optSetMetaContext, queryData("", "base:allocation", "x:y")); len(all) != 2 {
			t.Errorf("%d answers", len(all))
		}
		finish(p, "", 0)
	})
	t.Run("a second selection replaces the first", func(t *testing.T) {
		p := start(t)
		p.expect(repAck, optSetMetaContext, queryData("", "base:allocation"))
		p.expect(repAck, optSetMetaContext, queryData(""))
		finish(p, "", wireEINVAL)
	})
	t.Run("so does one that fails", func(t *testing.T) {
		p := start(t)
		p.expect(repAck, optSetMetaContext, queryData("", "base:allocation"))
		p.expect(repErrUnknown, optSetMetaContext, queryData("nobody", "base:allocation"))
		finish(p, "", wireEINVAL)
	})
	t.Run("holds for one export name", func(t *testing.T) {
		p := start(t)
		p.expect(repAck, optSetMetaContext, queryData("", "base:allocation"))
		finish(p, "disk", wireEINVAL)
	})
	t.Run("namespaces list but do not select", func(t *testing.T) {
		p := start(t)
		if all := p.expect(repAck, optListMetaContext, queryData("", "base:")); len(all) != 2 {
			t.Errorf("%d answers to LIST", len(all))
		}
		if all := p.expect(repAck, optSetMetaContext, queryData("", "base:")); len(all) != 1 {
			t.Errorf("%d answers to SET", len(all))
		}
	})
}

func TestOptionsAreBounded(t *testing.T) {
	t.Parallel()
	s := memServer(4096)
	s.Limits.Options = 5
	p := connect(t, s).hello()
	for range 5 {
		p.expect(repAck, optListMetaContext, queryData("disk"))
	}
	p.gone()
	if err := p.result(); err == nil || !strings.Contains(err.Error(), "more than 5 options") {
		t.Error(err)
	}
	// Who has a list may ask about all that is in it, but not get one list
	// after another.
	p = connect(t, s).hello()
	listed := len(p.expect(repAck, optList, nil)) - 1
	if listed == 0 {
		t.Fatal("the list is empty")
	}
	for range 4 + 4*listed {
		p.expect(repAck, optList, nil)
	}
	p.gone()
	if err := p.result(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("more than %d options", 5+4*listed)) {
		t.Error(err)
	}
}

// A client that sits in the handshake, or drips, is cut off in time.
func TestHandshakeTimeout(t *testing.T) {
	t.Parallel()
	for name, drip := range map[string]bool{"silent": false, "dripping": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mine, theirs := net.Pipe()
				start := time.Now()
				done := make(chan error, 1)
				go func() { done <- memServer(4096).ServeConn(t.Context(), theirs) }()
				dripped := make(chan struct{})
				go func() {
					defer close(dripped)
					io.ReadFull(mine, make([]byte, 18))
					for drip {
						time.Sleep(time.Second)
						if _, err := mine.Write([]byte{0}); err != nil {
							return
						}
					}
				}()
				if err := <-done; err == nil {
					t.Error("no error")
				}
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("took %v", took)
				}
				mine.Close()
				<-dripped
			})
		})
	}
}

// failingResolver answers with an error of its own.
type failingResolver struct{ err error }

func (r failingResolver) Resolve(context.Context, *ExportRequest) (*Export, error) { return nil, r.err }
func (r failingResolver) List(context.Context, *Peer) ([]*Export, error)           { return nil, r.err }

func TestResolverErrors(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]replyCode{
		ErrNotFound: repErrUnknown, ErrDenied: repErrPolicy, ErrTLSRequired: repErrTLSRequired,
		errors.New("secret path /srv/disk.img"): repErrPlatform,
	} {
		p := connect(t, &Server{Exports: failingResolver{err}}).hello()
		all := p.expect(want, optGo, infoData("x"))
		if bytes.Contains(all[0].data, []byte("secret")) {
			t.Errorf("client is told %q", all[0].data)
		}
	}
	p := connect(t, &Server{Exports: failingResolver{errors.New("x")}}).hello()
	p.expect(repErrPlatform, optList, nil)
	p = connect(t, &Server{}).hello()
	p.expect(repAck, optList, nil)
	p.expect(repErrUnknown, optGo, infoData(""))
}

func TestReleaseIsCalledOnceForEachResolve(t *testing.T) {
	t.Parallel()
	released := make(chan struct{}, 10)
	s := &Server{Exports: Exports{{Device: block.FromBytes(make([]byte, 4096)), Release: func() { released <- struct{}{} }}}}
	p := connect(t, s).hello()
	p.expect(repAck, optInfo, infoData(""))
	<-released
	p.expect(repAck, optListMetaContext, queryData(""))
	<-released
	p.expect(repAck, optGo, infoData(""))
	p.alive()
	select {
	case <-released:
		t.Fatal("released while in use")
	default:
	}
	p.send(cmdDisc, 0, 0, 0, 0, nil)
	if err := p.result(); err != nil {
		t.Error(err)
	}
	<-released
	if len(released) > 0 {
		t.Error("released twice")
	}
}

// What a Resolver has given out is released even if Wrap panics.
func TestPanicOfWrapReleases(t *testing.T) {
	t.Parallel()
	released := 0
	s := &Server{
		Exports: Exports{{Device: block.FromBytes(make([]byte, 512)), Release: func() { released++ }}},
		Wrap:    func(block.Device) block.Device { panic("boom") },
	}
	p := connect(t, s).hello()
	p.write(optionBytes(optGo, infoData("")))
	p.gone()
	if err := p.result(); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Error(err)
	}
	if released != 1 {
		t.Errorf("released %d times", released)
	}
}

// slowResolver takes a minute for everything but questions.
type slowResolver struct {
	Exports
	err error
}

func (r slowResolver) Resolve(ctx context.Context, req *ExportRequest) (*Export, error) {
	if req.Probe {
		return r.Exports.Resolve(ctx, req)
	}
	time.Sleep(time.Minute)
	if r.err != nil {
		return nil, r.err
	}
	return r.Exports.Resolve(ctx, req)
}

// A resolver, or a command that it runs, may take longer than a client has for
// the handshake; its answer arrives nevertheless.
func TestSlowResolver(t *testing.T) {
	t.Parallel()
	for _, refusal := range []error{nil, ErrDenied} {
		synctest.Test(t, func(t *testing.T) {
			s := &Server{Exports: slowResolver{Exports{{Name: "disk", Device: block.FromBytes(make([]byte, 4096))}}, refusal}}
			mine, theirs := net.Pipe()
			done := make(chan error)
			go func() { done <- s.ServeConn(t.Context(), theirs) }()
			d := Dialer{HandshakeTimeout: time.Hour, Connect: func(context.Context) (net.Conn, error) { return mine, nil }}
			c, err := d.Dial(t.Context(), "nbd://pipe/disk")
			if !errors.Is(err, refusal) {
				t.Errorf("after a minute: %v, want %v", err, refusal)
			}
			if err == nil {
				if err := c.ReadAt(t.Context(), make([]byte, 512), 0, 0); err != nil {
					t.Error(err)
				}
				c.Close()
			}
			<-done
		})
	}
}
