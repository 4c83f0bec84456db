package nbd

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"unicode/utf8"
)

const magicOldstyle uint64 = 0x0000420281861253

// Bounds of what a server may send while haggling.
const (
	// maxOptionReply bounds one reply to an option: two strings and some.
	maxOptionReply = 16 << 10
	// maxOptionReplies bounds the replies to one option.
	maxOptionReplies = 256
	// maxListed bounds the exports in a list, and the contexts of one.
	maxListed = 64 << 10
)

// A handshake is a connection before it carries requests. It reads exactly
// what it understands and never ahead: bytes that somebody slipped in behind
// the answer to STARTTLS go to the TLS layer, which refuses them, and those
// behind the last answer are the first replies.
type handshake struct {
	*target
	nc     net.Conn
	name   string // of the export that is asked for
	export ExportInfo
	// zeroes: the answer to EXPORT_NAME, or the oldstyle greeting, is padded.
	zeroes bool
	ids    []contextID
	sent   int // options
}

// A contextID is the number that stands for a metadata context in replies.
type contextID struct {
	name string
	id   uint32
}

// begin reads the greeting and, if the URI demands it, starts TLS.
func (h *handshake) begin(ctx context.Context) error {
	var p [16]byte
	if err := h.read(p[:]); err != nil {
		return fmt.Errorf("reading the greeting: %w", err)
	}
	if m := binary.BigEndian.Uint64(p[:]); m != magicInit {
		return violation("greeting begins with %#x, not with %#x; this is no NBD server", m, magicInit)
	}
	switch m := binary.BigEndian.Uint64(p[8:]); m {
	case magicOldstyle:
		return h.oldstyle()
	case magicOption:
	default:
		return violation("greeting goes on with %#x, which is no known style", m)
	}
	if err := h.read(p[:2]); err != nil {
		return fmt.Errorf("reading the greeting: %w", err)
	}
	flags := binary.BigEndian.Uint16(p[:]) & (flagFixedNewstyle | flagNoZeroes)
	h.zeroes = flags&flagNoZeroes == 0
	h.export.Replies = SimpleReplies
	h.export.Protocol = "fixed newstyle"
	if flags&flagFixedNewstyle == 0 {
		h.export.Protocol = "newstyle"
	}
	if err := h.write(binary.BigEndian.AppendUint32(nil, uint32(flags))); err != nil {
		return err
	}
	if !h.uri.TLS {
		return nil
	}
	return h.startTLS(ctx)
}

func (h *handshake) fixed() bool { return h.export.Protocol == "fixed newstyle" }

var errNoTLS = errors.New("the server does not offer TLS, which nbds:// demands")

func (h *handshake) oldstyle() error {
	if h.uri.TLS {
		return errNoTLS
	}
	if h.name != "" {
		return errors.New("the server is oldstyle, which has no names of exports; leave the name empty")
	}
	h.export.Protocol, h.export.Replies = "oldstyle", SimpleReplies
	var p [12 + exportNameReplyZeroes]byte
	if err := h.read(p[:]); err != nil {
		return fmt.Errorf("reading the greeting: %w", err)
	}
	// Of the 32 bits of flags the lower half has the transmission flags.
	h.export.setFlags(binary.BigEndian.Uint16(p[10:]))
	return h.export.setSize(binary.BigEndian.Uint64(p[:]))
}

func (h *handshake) startTLS(ctx context.Context) error {
	if !h.fixed() {
		return errNoTLS
	}
	cfg, err := h.tlsConfig()
	if err != nil {
		return err
	}
	if err := h.ask(optStartTLS, nil, nil); err != nil {
		var refused *refusedError
		if errors.As(err, &refused) {
			return &plainError{saying(errNoTLS.Error(), refused.text), errors.Join(errNoTLS, err)}
		}
		return err
	}
	secure := tls.Client(h.nc, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	h.nc = secure
	state := secure.ConnectionState()
	h.export.TLS = tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite)
	return nil
}

// ask sends an option and gives each reply that is neither the final one nor
// an error to each. It returns a *refusedError for an error reply.
func (h *handshake) ask(opt option, data []byte, each func(code replyCode, data []byte) error) error {
	if err := h.send(opt, data); err != nil {
		return err
	}
	most := maxOptionReplies
	if opt == optList || opt == optListMetaContext {
		most = maxListed
	}
	for range most {
		code, data, err := h.reply(opt)
		switch {
		case err != nil:
			return err
		case code == repAck:
			if len(data) != 0 {
				return violation("%v with %d bytes of data to %v", code, len(data), opt)
			}
			return nil
		case code&repError != 0:
			if len(data) > maxString {
				return violation("error text of %d bytes to %v, at most %d are allowed", len(data), opt, maxString)
			}
			return &refusedError{opt: opt, code: code, text: clean(data), export: h.name}
		case each == nil:
			return violation("%v to %v", code, opt)
		}
		if err := each(code, data); err != nil {
			return err
		}
	}
	return violation("more than %d replies to %v", most, opt)
}

func (h *handshake) send(opt option, data []byte) error {
	h.sent++
	p := binary.BigEndian.AppendUint64(nil, magicOption)
	p = binary.BigEndian.AppendUint32(p, uint32(opt))
	p = binary.BigEndian.AppendUint32(p, uint32(len(data)))
	return h.write(append(p, data...))
}

func (h *handshake) reply(opt option) (replyCode, []byte, error) {
	var p [20]byte
	if err := h.read(p[:]); err != nil {
		return 0, nil, fmt.Errorf("reading the reply to %v: %w", opt, err)
	}
	if m := binary.BigEndian.Uint64(p[:]); m != magicOptReply {
		return 0, nil, violation("reply to %v begins with %#x, not with %#x", opt, m, magicOptReply)
	}
	if o := option(binary.BigEndian.Uint32(p[8:])); o != opt {
		return 0, nil, violation("reply to %v, expected one to %v", o, opt)
	}
	code := replyCode(binary.BigEndian.Uint32(p[12:]))
	n := binary.BigEndian.Uint32(p[16:])
	if n > maxOptionReply {
		return 0, nil, violation("%v of %d bytes to %v, at most %d are accepted", code, n, opt, maxOptionReply)
	}
	data := make([]byte, n)
	if err := h.read(data); err != nil {
		return 0, nil, fmt.Errorf("reading the reply to %v: %w", opt, err)
	}
	return code, data, nil
}

func (h *handshake) read(p []byte) error {
	_, err := io.ReadFull(h.nc, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errHungUp
	}
	return err
}

func (h *handshake) write(p []byte) error {
	_, err := h.nc.Write(p)
	if tc, ok := h.nc.(*tls.Conn); ok && err != nil {
		// A server that refuses our certificate is gone before we know;
		// its reason is still there to be read.
		var remote *net.OpError
		if _, reason := tc.Read(make([]byte, 1)); errors.As(reason, &remote) && remote.Op == "remote error" {
			return reason
		}
	}
	return err
}

var errHungUp error = &plainError{"the server closed the connection", io.ErrUnexpectedEOF}

// isRefusal reports whether err is a server's no to an option, after which
// haggling goes on. A no for want of TLS is a no to everything.
func isRefusal(err error) bool {
	var refused *refusedError
	return errors.As(err, &refused) && refused.code != repErrTLSRequired
}

// leave ends the haggling politely. Servers need not answer and we do not
// wait.
func (h *handshake) leave() {
	if h.fixed() {
		h.send(optAbort, nil)
	}
	h.nc.Close()
}

// stringOf reads a string that a server sent.
func stringOf(p []byte, what string) (string, error) {
	if len(p) > maxString {
		return "", violation("%s of %d bytes, at most %d are allowed", what, len(p), maxString)
	}
	if bytes.IndexByte(p, 0) >= 0 {
		return "", violation("%s contains a NUL byte", what)
	}
	if !utf8.Valid(p) {
		return clean(p), nil
	}
	return string(p), nil
}
