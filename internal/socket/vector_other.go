//go:build !linux

package socket

import "net"

// A Vector sends from many places in one system call, on Linux.
type Vector struct{}

// NewVector returns nil.
func NewVector(net.Conn) *Vector { return nil }

// Reset forgets what was added.
func (v *Vector) Reset() {}

// Add adds p to what is to be sent.
func (v *Vector) Add([]byte) {}

// Send sends what was added.
func (v *Vector) Send(bool) (bool, error) { return true, nil }
