package nbd

import (
	"errors"
	"fmt"
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

// A refusedError is a server's answer to an option.
type refusedError struct {
	opt  option
	code replyCode
	text string
}

func (e *refusedError) Error() string {
	what := ""
	switch e.code {
	case repErrUnsup:
		what = "is not supported by the server"
	case repErrPolicy:
		what = "is forbidden by the server"
	case repErrTLSRequired:
		what = "needs TLS on this server (nbds:// in place of nbd://)"
	case repErrUnknown:
		what = "names an export that the server does not have"
	case repErrShutdown:
		what = "comes while the server shuts down"
	default:
		what = fmt.Sprintf("was refused with %v", e.code)
	}
	if e.text != "" {
		what += fmt.Sprintf("; it says %q", e.text)
	}
	return fmt.Sprintf("%v %s", e.opt, what)
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
	return fmt.Sprintf("nbd: %s: %s: %v", e.target, e.how, e.cause)
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
