package nbd

import (
	"context"
	"log/slog"
	"net"

	"github.com/strata-storage/strata/internal/socket"
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
	return socket.Accept(ctx, l, log, serve)
}
