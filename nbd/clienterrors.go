package nbd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"unicode"

	"github.com/strata-storage/strata/block"
)

// A violationError names the rule of the protocol that a server broke. Nothing
// that comes after it on the connection can be trusted.
type violationError struct{ text string }

func (e *violationError) Error() string { return "server broke the protocol: " + e.text }
func (e *violationError) Unwrap() error { return block.ErrIO }

func violation(format string, args ...any) error {
	return &violationError{fmt.Sprintf(format, args...)}
}

func isViolation(err error) bool {
	var v *violationError
	return errors.As(err, &v)
}

// A refusedError is a server's answer to an option, which is about an export
// or about none.
type refusedError struct {
	opt    option
	code   replyCode
	text   string
	export string
}

func (e *refusedError) Error() string {
	what := ""
	switch e.code {
	case repErrUnknown:
		if e.export == "" {
			return "the server has no default export: say which one"
		}
		return fmt.Sprintf("the server has no export %q", e.export)
	case repErrTLSRequired:
		return "the server demands TLS: nbds:// in place of nbd://"
	case repErrPolicy:
		what = fmt.Sprintf("the server forbids %v", e.opt)
	case repErrUnsup:
		what = fmt.Sprintf("the server does not know %v", e.opt)
	case repErrShutdown:
		what = "the server is shutting down"
	default:
		what = fmt.Sprintf("the server refuses %v with %v", e.opt, e.code)
	}
	return saying(what, e.text)
}

// saying adds the text of a server to what is known.
func saying(what, text string) string {
	if text == "" {
		return what
	}
	return fmt.Sprintf("%s; it says %q", what, text)
}

// A plainError says the same as another error in better words.
type plainError struct {
	text string
	err  error
}

func (e *plainError) Error() string { return e.text }
func (e *plainError) Unwrap() error { return e.err }

// unreachable is an error of connecting without what the URI says already.
func unreachable(err error) error {
	var op *net.OpError
	var call *os.SyscallError
	switch {
	case !errors.As(err, &op) || op.Op != "dial":
		return err
	case !errors.As(op.Err, &call):
		return op.Err // about a name that is not found
	case op.Net == "tcp":
		return &plainError{fmt.Sprintf("connect to %v: %v", op.Addr, call.Err), err}
	}
	return &plainError{fmt.Sprintf("connect: %v", call.Err), err}
}

// tlsReason is an error of a handshake in words for people, if TLS is its
// reason.
func tlsReason(err error) error {
	var op *net.OpError
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &untrusted):
		text := strings.TrimPrefix(untrusted.Err.Error(), "x509: ")
		return &plainError{"the server's certificate is not trusted: " + text, err}
	case errors.As(err, &op) && op.Op == "remote error":
		// With TLS 1.3 the answer to our certificate comes late.
		return &plainError{"the server ended TLS: " + strings.TrimPrefix(op.Err.Error(), "tls: "), err}
	}
	return err
}

// Unwrap gives the reason the meaning that the resolver of a Server gave it.
func (e *refusedError) Unwrap() error {
	switch e.code {
	case repErrUnknown:
		return ErrNotFound
	case repErrPolicy, repErrTLSRequired:
		return ErrDenied
	}
	return nil
}

// A replyError is a server's answer to a request that failed.
type replyError struct {
	cmd  command
	off  uint64
	n    uint64
	code uint32
	text string
	// at is the offset of the failure if it is located.
	at      uint64
	located bool
}

func (e *replyError) Error() string {
	what := fmt.Sprintf("nbd: %v", e.cmd)
	if e.cmd != cmdFlush {
		what = fmt.Sprintf("nbd: %v of %d bytes at offset %d", e.cmd, e.n, e.off)
	}
	if e.located {
		what += fmt.Sprintf(" failed at offset %d", e.at)
	}
	meaning := e.Unwrap().Error()
	if e.text != "" && e.text != meaning {
		return fmt.Sprintf("%s: %s; the server says %q", what, meaning, e.text)
	}
	return fmt.Sprintf("%s: %s", what, meaning)
}

// Unwrap returns the error of package block that the number means.
func (e *replyError) Unwrap() error {
	switch e.code {
	case wireEPERM:
		return block.ErrPermission
	case wireENOMEM:
		return block.ErrNoMemory
	case wireEINVAL:
		return block.ErrInvalid
	case wireENOSPC:
		return block.ErrNoSpace
	case wireEOVERFLOW:
		return syscall.EOVERFLOW
	case wireENOTSUP:
		return block.ErrNotSupported
	case wireESHUTDOWN:
		return syscall.ESHUTDOWN
	}
	return block.ErrIO
}

// A lostError ends requests whose connection is gone for good.
type lostError struct {
	target string
	how    string
	cause  error
}

func (e *lostError) Error() string {
	return fmt.Sprintf("%s: %s: %v", e.target, e.how, e.cause)
}

// Unwrap puts the meaning of the whole before that of the cause.
func (e *lostError) Unwrap() []error { return []error{block.ErrIO, e.cause} }

// clean makes a text of a server fit for a terminal and a log.
func clean(p []byte) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, string(p))
}
