package wire

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/strata-storage/strata/block"
)

// A Code is what an error means, as it crosses the wire.
type Code uint16

// The codes of error numbers.
const (
	CodeOK Code = iota
	CodeIO
	CodeInvalid
	CodeNoSpace
	CodeReadOnly
	CodePermission
	CodeNoMemory
	CodeNotSupported
	CodeWouldBlock
	CodeShutdown
	CodeTimedOut
	CodeCanceled
	CodeNotFound
	CodeExists
	CodeBusy
	CodeStale
)

// The codes of what a node refuses.
const (
	CodeUnknownOp Code = 32 + iota
	CodeGoingAway
	CodeForeignCluster
	CodeWrongNode
	CodeVersion
	CodeUnverified
	CodeUnknownSession
	CodeTooMany
	CodeMalformed
)

// The codes of what members of placement groups refuse.
const (
	CodeStaleEpoch Code = 64 + iota
	CodeStaleGeneration
	CodeNotMember
)

// CodeOwn is the first code for the users of this package.
const CodeOwn Code = 256

// meaning is an error with a text of its own and the meaning of an errno.
type meaning struct {
	text  string
	errno syscall.Errno
}

func (e *meaning) Error() string { return e.text }
func (e *meaning) Unwrap() error { return e.errno }

// What is found by errors.Is in the errors of a [Client].
var (
	// ErrLost: the session ended before the reply came. The request may have been
	// carried out, or not, or may be about to be until [Server.End] has returned.
	ErrLost error = &meaning{"connection to the node is lost", syscall.EIO}
	// ErrSilent: the partner was silent for too long. It comes with ErrLost.
	ErrSilent error = &meaning{"node is silent", syscall.ETIMEDOUT}
	// ErrClosed: the client is closed. The request was not sent, or see ErrLost.
	ErrClosed error = &meaning{"connection is closed", syscall.ESHUTDOWN}
	// ErrViolation: the partner has sent what it may not send. It comes with ErrLost.
	ErrViolation error = &meaning{"protocol violation", syscall.EIO}
	// ErrTooLarge: a request exceeds the limits. It was not sent.
	ErrTooLarge error = &meaning{"request exceeds a limit", syscall.EINVAL}

	// ErrUnknownOp: the node does not know the operation.
	ErrUnknownOp error = &meaning{"unknown operation", syscall.ENOTSUP}
	// ErrGoingAway: the node begins nothing new. The request was not carried out.
	ErrGoingAway error = &meaning{"node is going away", syscall.ESHUTDOWN}
	// ErrForeignCluster: the node is one of another cluster.
	ErrForeignCluster error = &meaning{"node of another cluster", syscall.EPERM}
	// ErrWrongNode: another node answers than the one that was meant.
	ErrWrongNode error = &meaning{"wrong node", syscall.EPERM}
	// ErrVersion: there is no version of the protocol that both sides speak.
	ErrVersion error = &meaning{"no common version of the protocol", syscall.ENOTSUP}
	// ErrUnverified: a node is not the one that it says it is, or not admitted.
	ErrUnverified error = &meaning{"identity of the node is not verified", syscall.EPERM}
	// ErrUnknownSession: the node does not know the session, or has ended it.
	ErrUnknownSession error = &meaning{"unknown session", syscall.ESTALE}
	// ErrTooMany: there are as many sessions or connections as there may be.
	ErrTooMany error = &meaning{"too many sessions or connections", syscall.EBUSY}
	// ErrMalformed: the head of a request is not what the operation expects.
	ErrMalformed error = &meaning{"malformed request", syscall.EINVAL}

	// ErrStaleEpoch: the placement group has a newer epoch, the error's Detail.
	ErrStaleEpoch error = &meaning{"stale epoch", syscall.ESTALE}
	// ErrStaleGeneration: the volume has a newer attachment, of generation Detail.
	ErrStaleGeneration error = &meaning{"stale generation", syscall.ESTALE}
	// ErrNotMember: the disk does not hold the placement group.
	ErrNotMember error = &meaning{"not a member of the placement group", syscall.ESTALE}
)

// An ErrorCode says which code an error has.
type ErrorCode struct {
	Code Code
	Err  error
}

// named are the errors with codes of their own, and what codes mean. The first one
// that matches counts: what says more comes first.
var named = []ErrorCode{
	{CodeUnknownOp, ErrUnknownOp}, {CodeGoingAway, ErrGoingAway}, {CodeForeignCluster, ErrForeignCluster},
	{CodeWrongNode, ErrWrongNode}, {CodeVersion, ErrVersion}, {CodeUnverified, ErrUnverified},
	{CodeUnknownSession, ErrUnknownSession}, {CodeTooMany, ErrTooMany}, {CodeMalformed, ErrMalformed},
	{CodeStaleEpoch, ErrStaleEpoch}, {CodeStaleGeneration, ErrStaleGeneration}, {CodeNotMember, ErrNotMember},
}

// numbers are the error numbers that cross the wire. Others become EIO.
var numbers = []ErrorCode{
	{CodeIO, syscall.EIO}, {CodeInvalid, syscall.EINVAL}, {CodeNoSpace, syscall.ENOSPC},
	{CodeReadOnly, syscall.EROFS}, {CodePermission, syscall.EPERM}, {CodeNoMemory, syscall.ENOMEM},
	{CodeNotSupported, syscall.ENOTSUP}, {CodeWouldBlock, syscall.EAGAIN}, {CodeShutdown, syscall.ESHUTDOWN},
	{CodeTimedOut, syscall.ETIMEDOUT}, {CodeCanceled, syscall.ECANCELED}, {CodeNotFound, syscall.ENOENT},
	{CodeExists, syscall.EEXIST}, {CodeBusy, syscall.EBUSY}, {CodeStale, syscall.ESTALE},
	{CodePermission, syscall.EACCES}, {CodeNoSpace, syscall.EDQUOT},
}

// A RemoteError is what the partner answered in place of a result.
type RemoteError struct {
	// Node is the partner.
	Node string
	Code Code
	// Detail is a number that belongs to the code, such as the epoch that the
	// partner knows, or 0.
	Detail uint64
	// Text says what was wrong.
	Text string
	is   error
}

func (e *RemoteError) Error() string { return fmt.Sprintf("node %s: %s", e.Node, e.Text) }

// Unwrap returns what the code means.
func (e *RemoteError) Unwrap() error { return e.is }

// WithDetail returns err, which crosses the wire with detail.
func WithDetail(err error, detail uint64) error { return &detailed{err, detail} }

type detailed struct {
	error
	detail uint64
}

func (e *detailed) Unwrap() error { return e.error }

// maxText bounds the text of an error.
const maxText = 1 << 10

// A codec turns errors into codes and back.
type codec struct{ own []ErrorCode }

func newCodec(own []ErrorCode) (*codec, error) {
	for i, e := range own {
		if e.Code < CodeOwn || e.Err == nil {
			return nil, fmt.Errorf("wire: code %d of the error %v, expected %d or more", e.Code, e.Err, CodeOwn)
		}
		for _, o := range own[:i] {
			if o.Code == e.Code {
				return nil, fmt.Errorf("wire: code %d belongs to %q and to %q", e.Code, o.Err, e.Err)
			}
		}
	}
	return &codec{own}, nil
}

// code returns the code of err, which is not nil.
func (c *codec) code(err error) Code {
	for _, list := range [][]ErrorCode{c.own, named} {
		for _, e := range list {
			if errors.Is(err, e.Err) {
				return e.Code
			}
		}
	}
	errno := block.Errno(err)
	for _, e := range numbers {
		if e.Err == errno {
			return e.Code
		}
	}
	return CodeIO
}

// meaning returns what code means.
func (c *codec) meaning(code Code) error {
	for _, list := range [][]ErrorCode{c.own, named, numbers} {
		for _, e := range list {
			if e.Code == code {
				return e.Err
			}
		}
	}
	return syscall.EIO
}

// reply returns the header and the head of a reply with err.
func (c *codec) reply(id uint64, err error) (header, []byte) {
	h := header{kind: kindReply, op: uint16(c.code(err)), id: id}
	var d *detailed
	if errors.As(err, &d) {
		h.millis, h.room = uint32(d.detail>>32), uint32(d.detail)
	}
	text := err.Error()
	return h, []byte(text[:min(len(text), maxText)])
}

// remote is the error in a reply or refusal of node.
func (c *codec) remote(node string, h *header, head []byte) error {
	code := Code(h.op)
	e := &RemoteError{Node: node, Code: code, Detail: h.detail(), is: c.meaning(code)}
	if e.Text = printable(head[:min(len(head), maxText)]); e.Text == "" {
		e.Text = e.is.Error()
	}
	return e
}

// printable is text for a person: what the partner sent may reach a terminal.
func printable(p []byte) string {
	runes := []rune(string(p))
	for i, r := range runes {
		if r < ' ' || r == 0x7f {
			runes[i] = ' '
		}
	}
	return string(runes)
}
