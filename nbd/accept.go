package nbd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"syscall"
	"time"
)

// Accept hands every connection that l accepts to serve, which owns it and
// must not block, until l is closed or has failed for good, and returns the
// error of that. Errors that pass are logged and waited out. Cancelling ctx
// ends such a wait and with it Accept, which then returns the cause; to end
// it at any other time, close l. log is required.
//
// It is for programs that decide about each connection themselves; others use
// [Server.Serve].
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
