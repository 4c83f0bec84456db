package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"regexp"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/nbd"
)

var uriRule = regexp.MustCompile(`^nbds?(\+(unix|vsock))?:`)

// isURI reports whether arg is an NBD URI and not the name of a file.
func isURI(arg string) bool {
	if !uriRule.MatchString(arg) {
		return false
	}
	_, err := os.Lstat(arg)
	return errors.Is(err, fs.ErrNotExist)
}

// dialer makes connections that report their loss to standard error.
func (e *Env) dialer(conns int) *nbd.Dialer {
	handler := slog.NewTextHandler(e.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})
	return &nbd.Dialer{Conns: conns, Log: slog.New(handler)}
}

// An access says what a disk is opened for.
type access int

const (
	toRead access = iota
	toWrite
)

// openDevice opens what a file, an NBD URI or an expression stands for, a
// remote disk with that many connections. Files that are only to be read, also
// those in an expression, may be read by others at the same time and need not
// be writable.
func (e *Env) openDevice(ctx context.Context, arg string, conns int, to access) (block.Device, error) {
	if isURI(arg) {
		return e.dialer(conns).Dial(ctx, arg)
	}
	spec, err := e.loader().Device(ctx, arg)
	if err != nil {
		return nil, err
	}
	if to == toRead {
		spec = spec.ForReading()
	}
	return spec.Open(ctx)
}

// closing closes dev and adds what went wrong to err, for a deferred call.
func closing(dev block.Device, what string, err *error) {
	if e := dev.Close(); e != nil {
		*err = errors.Join(*err, fmt.Errorf("close %s: %w", what, e))
	}
}
