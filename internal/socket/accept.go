package socket

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"syscall"
	"time"
)

// Accept is that of package nbd, for all that listen.
func Accept(ctx context.Context, l net.Listener, log *slog.Logger, serve func(net.Conn)) error {
	var pause time.Duration
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			serve(conn)
			continue
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !isTemporary(err):
			return err
		}
		// Out of file descriptors, most likely: connections that end will
		// give some back.
		pause = min(max(5*time.Millisecond, 2*pause), time.Second)
		log.Warn("cannot accept a connection", "listener", l.Addr().String(), "error", err, "retry_in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// isTemporary reports whether Accept may work again: the connection that it
// would have returned has failed, or something has run out.
func isTemporary(err error) bool {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return slices.Contains(temporary, errno)
	}
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

var temporary = []syscall.Errno{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
	syscall.EINTR, syscall.EAGAIN, syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPERM, syscall.EPROTO,
	syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ETIMEDOUT,
}
