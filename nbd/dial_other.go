//go:build !linux

package nbd

import (
	"context"
	"errors"
	"net"
	"syscall"
)

func controlTCP(string, string, syscall.RawConn) error { return nil }

func dialVSock(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("vsock is only supported on Linux")
}
