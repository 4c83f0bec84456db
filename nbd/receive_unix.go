//go:build unix

package nbd

import "github.com/strata-storage/strata/internal/socket"

// receiveNow receives what there is without waiting. The descriptor does not
// block, so the call needs no help of the scheduler.
func receiveNow(fd uintptr, p []byte) (int, error) {
	return socket.Receive(fd, p)
}
