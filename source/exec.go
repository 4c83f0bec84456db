package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/nbd"
	"golang.org/x/sys/unix"
)

// ExecOptions configures Exec.
type ExecOptions struct {
	_          struct{} `doc:"A child process that is an NBD server." long:"The server gets a socket as its standard input and output, as nbdkit -s expects, and brings its own storage in: exec(\"nbdkit\", \"-s\", \"curl\", \"https://...\"). With activation it gets a listening socket as systemd passes it, as qemu-nbd expects. It ends with this process, and its end is the end of the device."`
	Command    []string `name:"command" arg:"*" required:"true" doc:"The program and its arguments."`
	Export     string   `name:"export" doc:"The export to use; by default the server's default export."`
	Activation bool     `name:"activation" doc:"Pass a listening socket as systemd does (LISTEN_FDS), in place of a connection."`
	Conns      int      `name:"conns" default:"1" doc:"With activation: number of connections, up to 64, if the server allows more than one."`
}

// Exec starts an NBD server as a child process and returns its export. The
// child is killed when this process ends, however it ends. Close disconnects,
// waits some seconds for the child to end and kills it then; it returns an
// error if the child fails, because that may mean that data is lost. What the
// child writes to its standard error goes to slog.Default. When it dies all
// requests fail with an error that tells how, and what it said last.
func Exec(ctx context.Context, o ExecOptions) (block.Device, error) {
	switch {
	case len(o.Command) == 0 || o.Command[0] == "":
		return nil, fmt.Errorf("exec: no command is given: %w", block.ErrInvalid)
	case o.Conns > 1 && !o.Activation:
		return nil, fmt.Errorf("exec: a server without activation has one connection, not %d: %w", o.Conns, block.ErrInvalid)
	}
	start := startConnected
	if o.Activation {
		start = startActivated
	}
	d, err := start(&o)
	var missing *exec.Error
	switch {
	case errors.As(err, &missing):
		return nil, fmt.Errorf("exec: %s: %w", missing.Name, missing.Err)
	case err != nil:
		return nil, fmt.Errorf("exec: %w", err)
	}
	if err := d.dial(ctx, &o); err != nil {
		err = d.explain(err)
		d.process.kill()
		d.disconnect()
		return nil, err
	}
	return d, nil
}

// child is the export of a child process.
type child struct {
	block.Device
	process *process
	connect func(ctx context.Context) (net.Conn, error)
	// disconnect makes the child end, once the client is closed.
	disconnect func() error
}

// grace is how long a child may take to end once it is disconnected. It may
// have to write back what it has cached.
const grace = 10 * time.Second

// startConnected starts a server with a connection as its standard input and
// output.
func startConnected(o *ExecOptions) (*child, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "our end")
	theirs := os.NewFile(uintptr(fds[1]), "the child's end")
	defer theirs.Close()
	cmd := newCommand(o.Command...)
	cmd.Stdin, cmd.Stdout = theirs, theirs
	p, err := startProcess(cmd, o.Command[0])
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	return &child{
		process:    p,
		connect:    func(context.Context) (net.Conn, error) { return net.FileConn(ours) },
		disconnect: ours.Close,
	}, nil
}

// activate runs its arguments as systemd would: LISTEN_PID is known only
// after the process has been made.
const activate = `export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=nbd; exec "$@"`

// startActivated starts a server that finds a listening socket as descriptor
// 3, in a directory that only this user can enter.
func startActivated(o *ExecOptions) (*child, error) {
	if _, err := exec.LookPath(o.Command[0]); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "strata-exec")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "socket")
	p, err := startListening(path, o)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &child{
		process: p,
		connect: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		disconnect: func() error {
			p.terminate()
			return os.RemoveAll(dir)
		},
	}, nil
}

func startListening(path string, o *ExecOptions) (*process, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	defer l.Close()
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := newCommand(append([]string{"/bin/sh", "-c", activate, "sh"}, o.Command...)...)
	cmd.ExtraFiles = []*os.File{f}
	return startProcess(cmd, o.Command[0])
}

// dial connects to the child that is running.
func (d *child) dial(ctx context.Context, o *ExecOptions) error {
	// A child that ends does not always end the connection: the socket of
	// an activated one accepts on its behalf.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-d.process.exited:
			cancel(d.process.exit())
		case <-ctx.Done():
		}
	}()
	dialer := &nbd.Dialer{
		Conns:     o.Conns,
		Connect:   d.connect,
		Reconnect: nbd.Reconnect{Off: true},
		Log:       slog.Default(),
	}
	u := nbd.URI{Transport: nbd.Unix, Socket: d.process.name, Export: o.Export}
	client, err := dialer.Dial(ctx, u.String())
	if err != nil {
		return cmp.Or(errors.Unwrap(err), err) // without the URI, which is made up
	}
	d.Device = client
	return nil
}

// explain adds to an error that the child has ended, if it has.
func (d *child) explain(err error) error {
	var exit *exitError
	switch {
	case err == nil || errors.Is(err, block.ErrClosed):
		return err
	case errors.As(err, &exit):
		return fmt.Errorf("exec: %w", exit)
	}
	select {
	case <-d.process.exited:
	default:
		if !hungUp(err) || !d.process.wait(time.Second) {
			return fmt.Errorf("exec: %s: %w", d.process.name, err)
		}
	}
	return fmt.Errorf("exec: %w: %w", d.process.exit(), err)
}

// hungUp reports whether err means that the other end of a connection is
// closed.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNREFUSED)
}

func (d *child) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	return d.explain(d.Device.ReadAt(ctx, p, off, flags))
}

func (d *child) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	return d.explain(d.Device.WriteAt(ctx, p, off, flags))
}

func (d *child) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	return d.explain(d.Device.Zero(ctx, off, n, flags))
}

func (d *child) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	return d.explain(d.Device.Trim(ctx, off, n, flags))
}

func (d *child) Flush(ctx context.Context) error {
	return d.explain(d.Device.Flush(ctx))
}

func (d *child) Extents(ctx context.Context, mc string, off, n int64) iter.Seq2[block.Extent, error] {
	return func(yield func(block.Extent, error) bool) {
		for e, err := range d.Device.Extents(ctx, mc, off, n) {
			if !yield(e, d.explain(err)) {
				return
			}
		}
	}
}

func (d *child) Close() error {
	if err := d.Device.Close(); err != nil {
		return err
	}
	if err := errors.Join(d.disconnect(), d.process.stop(grace)); err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	return nil
}
