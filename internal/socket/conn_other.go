//go:build !linux

package socket

import "net"

// New returns nc.
func New(nc net.Conn) net.Conn { return nc }

// Yield does nothing.
func Yield() {}
