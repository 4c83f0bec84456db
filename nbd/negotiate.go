package nbd

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/strata-storage/strata/block"
)

// Bounds on what a client may send in one option. What is longer than
// maxOption is refused with TOO_BIG and skipped; nobody means well who
// announces more than maxSkip.
const (
	maxOption = 256 << 10
	maxSkip   = 16 << 20
)

// A negotiation is the server's side of the option haggling. It reads exactly
// what belongs to it and not a byte more, so that nothing that was sent in
// clear text can be taken for something sent through TLS, and the requests
// that a client sends early are found by the transmission.
type negotiation struct {
	server *Server
	ctx    context.Context
	conn   net.Conn // the TLS connection once there is one
	w      *bufio.Writer
	peer   *Peer
	log    func(msg string, args ...any)

	fixed, noZeroes      bool
	structured, extended bool
	// allowed is how many options there may be beyond the limit: enough to ask
	// about every export of the longest list. extend lets the handshake take so
	// much longer than it may without.
	allowed int
	extend  func(time.Duration)
	// selection is the result of the last SET_META_CONTEXT.
	selection struct {
		valid  bool
		export string
		chosen []metaContext
	}
}

// errLeft says that the client has gone, politely.
var errLeft = errors.New("client has left")

// negotiate agrees with the client on a session. A client that leaves without
// choosing an export gives neither a session nor an error.
func (c *serverConn) negotiate(ctx context.Context) (*session, net.Conn, error) {
	n := &negotiation{
		server: c.server, ctx: ctx, conn: c.conn, w: bufio.NewWriter(c.conn),
		peer: &Peer{Addr: c.conn.RemoteAddr(), Cred: peerCred(c.conn)},
	}
	began := time.Now()
	n.extend = func(d time.Duration) {
		c.conn.SetDeadline(began.Add(c.server.limits.Handshake + d))
		if c.draining.Load() {
			c.drain()
		}
	}
	n.log = func(msg string, args ...any) {
		c.server.log.Warn(msg, append([]any{"peer", c.peerName}, args...)...)
	}
	if err := n.greet(); errors.Is(err, errLeft) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	for i := 0; i < c.server.limits.Options+n.allowed; i++ {
		sess, err := n.option()
		switch {
		case errors.Is(err, errLeft):
			return nil, nil, nil
		case err != nil:
			return nil, nil, err
		case sess != nil:
			if err := n.w.Flush(); err != nil {
				sess.release()
				return nil, nil, err
			}
			return sess, n.conn, nil
		}
	}
	return nil, nil, fmt.Errorf("more than %d options", c.server.limits.Options+n.allowed)
}

// release gives the export of a session back that never came to be.
func (s *session) release() {
	if s.export.Release != nil {
		s.export.Release()
	}
}

// greet exchanges the first words.
func (n *negotiation) greet() error {
	hello := binary.BigEndian.AppendUint64(nil, magicInit)
	hello = binary.BigEndian.AppendUint64(hello, magicOption)
	hello = binary.BigEndian.AppendUint16(hello, flagFixedNewstyle|flagNoZeroes)
	if _, err := n.conn.Write(hello); err != nil {
		return err
	}
	var flags [4]byte
	if _, err := io.ReadFull(n.conn, flags[:]); err != nil {
		if err == io.EOF {
			return errLeft
		}
		return err
	}
	f := binary.BigEndian.Uint32(flags[:])
	if unknown := f &^ uint32(flagFixedNewstyle|flagNoZeroes); unknown != 0 {
		return fmt.Errorf("client sets flags %#x, which were not offered", unknown)
	}
	n.fixed = f&uint32(flagFixedNewstyle) != 0
	n.noZeroes = f&uint32(flagNoZeroes) != 0
	return nil
}

// option reads one option and answers it. It returns a session when the
// option ends the negotiation.
func (n *negotiation) option() (*session, error) {
	var head [16]byte
	if _, err := io.ReadFull(n.conn, head[:]); err != nil {
		if err == io.EOF {
			return nil, errLeft
		}
		return nil, err
	}
	if m := binary.BigEndian.Uint64(head[:]); m != magicOption {
		return nil, fmt.Errorf("option starts with %#x in place of IHAVEOPT", m)
	}
	opt := option(binary.BigEndian.Uint32(head[8:]))
	size := binary.BigEndian.Uint32(head[12:])
	if opt == optExportName || !n.fixed {
		// These have no way to be told of an error.
		return n.exportName(opt, size)
	}
	if opt == optAbort {
		n.reply(opt, repAck, nil)
		n.sayGoodbye(size)
		return nil, errLeft
	}
	if size > maxOption {
		return nil, n.tooBig(opt, size)
	}
	// Memory grows with what comes, not with what is announced.
	data, err := io.ReadAll(io.LimitReader(n.conn, int64(size)))
	if err == nil && len(data) < int(size) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("%v: %w", opt, err)
	}
	sess, err := n.answer(opt, data)
	if err != nil || sess != nil {
		return sess, err
	}
	return nil, n.w.Flush()
}

// tooBig refuses an option and skips its data.
func (n *negotiation) tooBig(opt option, size uint32) error {
	n.refuse(opt, repErrTooBig, "option data of %d bytes, at most %d are allowed", size, maxOption)
	if err := n.w.Flush(); err != nil {
		return err
	}
	if size > maxSkip {
		return fmt.Errorf("%v announces %d bytes", opt, size)
	}
	_, err := io.CopyN(io.Discard, n.conn, int64(size))
	return err
}

// answer handles an option whose data have been read.
func (n *negotiation) answer(opt option, data []byte) (*session, error) {
	if n.server.TLS == TLSRequired && n.peer.TLS == nil && opt != optStartTLS {
		n.refuse(opt, repErrTLSRequired, "TLS is required")
		return nil, nil
	}
	switch opt {
	case optStartTLS:
		return nil, n.startTLS(data)
	case optList:
		return nil, n.list(data)
	case optInfo, optGo:
		return n.info(opt, data)
	case optStructuredReply:
		if n.noData(opt, data) {
			if n.extended {
				n.refuse(opt, repErrInvalid, "extended headers imply structured replies")
				return nil, nil
			}
			n.structured = true
			n.reply(opt, repAck, nil)
		}
	case optExtendedHeaders:
		if n.noData(opt, data) {
			n.structured, n.extended = true, true
			n.reply(opt, repAck, nil)
		}
	case optListMetaContext, optSetMetaContext:
		n.metaContext(opt, data)
	default:
		n.refuse(opt, repErrUnsup, "%v is not supported", opt)
	}
	return nil, nil
}

// noData refuses an option that has data and should not.
func (n *negotiation) noData(opt option, data []byte) bool {
	if len(data) > 0 {
		n.refuse(opt, repErrInvalid, "%v has %d bytes of data, expected none", opt, len(data))
		return false
	}
	return true
}

// startTLS turns the connection into a TLS connection and forgets all that was
// agreed on in clear text.
func (n *negotiation) startTLS(data []byte) error {
	switch {
	case !n.noData(optStartTLS, data):
		return nil
	case n.peer.TLS != nil:
		n.refuse(optStartTLS, repErrInvalid, "TLS is in use already")
		return nil
	case n.server.TLS == TLSOff:
		n.refuse(optStartTLS, repErrPolicy, "this server does not use TLS")
		return nil
	}
	n.reply(optStartTLS, repAck, nil)
	if err := n.w.Flush(); err != nil {
		return err
	}
	conn := tls.Server(newRecordConn(n.conn), n.server.TLSConfig)
	if err := conn.HandshakeContext(n.ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	state := conn.ConnectionState()
	peer := *n.peer
	peer.TLS = &state
	n.peer = &peer
	n.conn = conn
	n.w = bufio.NewWriter(conn)
	n.structured, n.extended = false, false
	n.deselect()
	return nil
}

// perListed is how many options a client may send for each export of a list:
// INFO, and LIST_META_CONTEXT or SET_META_CONTEXT with the context that it wants,
// and as many again after STARTTLS.
const perListed = 4

// listedTime is how much longer than Limits.Handshake it may take for each of them. What
// nbdinfo asks about contexts stays in its machine for 0.2 s if it goes through TCP, as it
// tells the kernel that there is more to come.
const listedTime = 500 * time.Millisecond

// list tells the names of the exports.
func (n *negotiation) list(data []byte) error {
	if !n.noData(optList, data) {
		return nil
	}
	if n.server.Exports == nil {
		n.reply(optList, repAck, nil)
		return nil
	}
	exports, err := n.server.Exports.List(n.ctx, n.peer)
	if err != nil {
		n.log("cannot list exports", "error", err)
		n.refuse(optList, repErrPlatform, "the list cannot be had now")
		return nil
	}
	if more := perListed * len(exports); more > n.allowed {
		n.allowed = more
		n.extend(time.Duration(len(exports)) * listedTime)
	}
	for _, x := range exports {
		if x.RequireTLS && n.peer.TLS == nil {
			continue
		}
		entry := appendString(nil, x.Name)
		n.reply(optList, repServer, append(entry, x.Description...))
	}
	n.reply(optList, repAck, nil)
	return nil
}

// exportName answers EXPORT_NAME, and whatever else a client sends that is not
// of the fixed kind: it ends the negotiation, well or not.
func (n *negotiation) exportName(opt option, size uint32) (*session, error) {
	switch {
	case opt != optExportName:
		return nil, fmt.Errorf("%v from a client that does not speak fixed newstyle", opt)
	case n.server.TLS == TLSRequired && n.peer.TLS == nil:
		return nil, fmt.Errorf("%v without TLS, which is required", opt)
	case size > maxString:
		return nil, fmt.Errorf("export name of %d bytes, at most %d are allowed", size, maxString)
	}
	name := make([]byte, size)
	if _, err := io.ReadFull(n.conn, name); err != nil {
		return nil, err
	}
	if err := checkString(name); err != nil {
		return nil, fmt.Errorf("export name %w", err)
	}
	sess, code, msg := n.open(string(name), false)
	if sess == nil {
		return nil, fmt.Errorf("export %q: %v: %s", name, code, msg)
	}
	out := binary.BigEndian.AppendUint64(nil, uint64(sess.info.Size))
	out = binary.BigEndian.AppendUint16(out, sess.flags)
	if !n.noZeroes {
		out = append(out, make([]byte, exportNameReplyZeroes)...)
	}
	n.w.Write(out)
	return sess, nil
}

// open resolves an export and works out what the session can do. With probe it
// is only to be described; the caller releases it. If there is no such export
// for this client, code and msg say why.
func (n *negotiation) open(name string, probe bool) (sess *session, code replyCode, msg string) {
	if n.server.Exports == nil {
		return nil, repErrUnknown, "no such export"
	}
	x, err := n.server.Exports.Resolve(n.ctx, &ExportRequest{Name: name, Peer: n.peer, Probe: probe})
	if !probe {
		// The time that the resolver took is not the client's. It has none
		// for further options, but the answer must reach it.
		n.conn.SetWriteDeadline(time.Now().Add(n.server.limits.Handshake))
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, repErrUnknown, "no such export"
	case errors.Is(err, ErrDenied):
		return nil, repErrPolicy, "access denied"
	case errors.Is(err, ErrTLSRequired):
		return nil, repErrTLSRequired, "this export needs TLS"
	case err != nil:
		n.log("cannot open export", "export", name, "error", err)
		return nil, repErrPlatform, "the export cannot be had now"
	}
	defer func() {
		if sess == nil && x.Release != nil { // also if Wrap panics
			x.Release()
		}
	}()
	if x.RequireTLS && n.peer.TLS == nil {
		return nil, repErrTLSRequired, "this export needs TLS"
	}
	return n.newSession(x, name), 0, ""
}

// newSession works out what the client can do with x.
func (n *negotiation) newSession(x *Export, name string) *session {
	dev := x.Device
	if n.server.Wrap != nil {
		dev = n.server.Wrap(dev)
	}
	info := dev.Info()
	info.ReadOnly = info.ReadOnly || x.ReadOnly
	s := &session{
		export: x, device: dev, info: info, name: name,
		structured: n.structured, extended: n.extended, tls: n.peer.TLS,
	}
	if n.structured && n.selection.valid && n.selection.export == name {
		s.contexts = n.selection.chosen
	}
	s.flags = transmissionFlags(&info, x, s)
	return s
}

// transmissionFlags tells the client what it may ask for.
func transmissionFlags(info *block.Info, x *Export, s *session) uint16 {
	flags := flagHasFlags | flagSendFlush | flagSendFUA | flagSendCache
	for _, f := range []struct {
		flag uint16
		have bool
	}{
		{flagReadOnly, info.ReadOnly},
		{flagRotational, info.Rotational},
		{flagSendTrim, info.Trims && !info.ReadOnly},
		{flagSendWriteZeroes, !info.ReadOnly},
		{flagSendFastZero, info.FastZeros && !info.ReadOnly},
		{flagSendDF, s.structured},
		{flagCanMultiConn, !x.Exclusive},
		{flagBlockStatusPayload, s.extended},
	} {
		if f.have {
			flags |= f.flag
		}
	}
	return flags
}

// reply queues one answer to an option. Errors show when it is flushed.
func (n *negotiation) reply(opt option, code replyCode, data []byte) {
	var head [20]byte
	binary.BigEndian.PutUint64(head[:], magicOptReply)
	binary.BigEndian.PutUint32(head[8:], uint32(opt))
	binary.BigEndian.PutUint32(head[12:], uint32(code))
	binary.BigEndian.PutUint32(head[16:], uint32(len(data)))
	n.w.Write(head[:])
	n.w.Write(data)
}

// refuse queues an error with a text for people.
func (n *negotiation) refuse(opt option, code replyCode, format string, args ...any) {
	n.reply(opt, code, []byte(fmt.Sprintf(format, args...)))
}

// sayGoodbye sends what is queued to a client that may not listen any more, and
// takes in what it still has to say: closing a socket with unread bytes in it
// would take the answer away from the client.
func (n *negotiation) sayGoodbye(unread uint32) {
	n.conn.SetDeadline(time.Now().Add(time.Second))
	n.w.Flush()
	if t, ok := n.conn.(*tls.Conn); ok {
		t.CloseWrite()
	}
	io.CopyN(io.Discard, n.conn, min(int64(unread), maxSkip))
}

// checkString reports what the protocol does not allow in a string.
func checkString(s []byte) error {
	switch {
	case len(s) > maxString:
		return fmt.Errorf("has %d bytes, at most %d are allowed", len(s), maxString)
	case strings.IndexByte(string(s), 0) >= 0:
		return errors.New("holds a NUL byte")
	case !utf8.Valid(s):
		return errors.New("is not UTF-8")
	}
	return nil
}

// appendString appends a string as the protocol wants it, length first.
func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
