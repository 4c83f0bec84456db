package lock

import (
	"context"
	"fmt"
	"net"
	"strings"
)

// How the addresses of locks begin.
const (
	FileScheme = "file:"
	tcpScheme  = "tcp://"
)

// Valid reports whether where is the address of a lock:
//
//	none                   no lock: there is one party only
//	file:PATH              File
//	tcp://HOST:PORT/NAME   Dial, in clear text
func Valid(where string) error {
	if where == "none" {
		return nil
	}
	if path, ok := strings.CutPrefix(where, FileScheme); ok {
		if path == "" {
			return fmt.Errorf("lock %q: the path of the lock file is missing", where)
		}
		return nil
	}
	if rest, ok := strings.CutPrefix(where, tcpScheme); ok {
		address, name, _ := strings.Cut(rest, "/")
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("lock %q: want tcp://HOST:PORT/NAME: %w", where, err)
		}
		if name == "" || len(name) > MaxName {
			return fmt.Errorf("lock %q: want tcp://HOST:PORT/NAME with a name of 1 to %d bytes", where, MaxName)
		}
		return nil
	}
	return fmt.Errorf("lock %q: want none, file:PATH or tcp://HOST:PORT/NAME", where)
}

// Open returns the lock at an address, for one more party; nil for none.
func Open(ctx context.Context, where string) (Lock, error) {
	if err := Valid(where); err != nil {
		return nil, err
	}
	if path, ok := strings.CutPrefix(where, FileScheme); ok {
		return File(path)
	}
	if rest, ok := strings.CutPrefix(where, tcpScheme); ok {
		address, name, _ := strings.Cut(rest, "/")
		return Dial(ctx, address, name, DialOptions{})
	}
	return nil, nil
}
