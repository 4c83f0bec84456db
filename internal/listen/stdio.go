package listen

import (
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Standard is the connection on a process's standard input and output: one
// socket, as inetd passes it, or a pair of pipes. It owns both files.
func Standard(in, out *os.File) (net.Conn, error) {
	if _, err := unix.GetsockoptInt(int(in.Fd()), unix.SOL_SOCKET, unix.SO_TYPE); err == nil {
		c, err := net.FileConn(in)
		if err != nil {
			return nil, err
		}
		return c, errors.Join(in.Close(), out.Close())
	}
	return &pipePair{in: pollable(in), out: pollable(out)}, nil
}

// pollable re-opens f so that deadlines and Close end its reads and writes,
// which is possible for pipes and terminals; of other files it returns f.
func pollable(f *os.File) *os.File {
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil || unix.SetNonblock(fd, true) != nil {
		return f
	}
	unix.CloseOnExec(fd)
	name := f.Name()
	f.Close()
	return os.NewFile(uintptr(fd), name)
}

type pipePair struct{ in, out *os.File }

func (c *pipePair) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c *pipePair) Write(p []byte) (int, error) { return c.out.Write(p) }
func (c *pipePair) Close() error                { return errors.Join(c.in.Close(), c.out.Close()) }
func (c *pipePair) LocalAddr() net.Addr         { return stdioAddr{} }
func (c *pipePair) RemoteAddr() net.Addr        { return stdioAddr{} }

func (c *pipePair) SetDeadline(t time.Time) error {
	return errors.Join(c.in.SetDeadline(t), c.out.SetDeadline(t))
}
func (c *pipePair) SetReadDeadline(t time.Time) error  { return c.in.SetReadDeadline(t) }
func (c *pipePair) SetWriteDeadline(t time.Time) error { return c.out.SetWriteDeadline(t) }

type stdioAddr struct{}

func (stdioAddr) Network() string { return "stdio" }
func (stdioAddr) String() string  { return "stdio" }
