package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/strata-storage/strata/internal/socket"
)

// The limit row: messages of the same sizes over the same kind of connection,
// with nothing done to them. The server reads whatever has come and answers all
// of it with one write.

// limitName is the name of the limit among the servers of a row.
const limitName = "bare echo"

// echoCommand makes this program the server of the limit row. Network and
// address follow, and for TLS the folder of the certificates.
const echoCommand = "-echo-server"

// bareEcho is the server of the limit row.
var bareEcho = server{name: limitName, command: func(l *lab, p place) []string {
	self, err := os.Executable()
	if err != nil {
		return []string{"false"}
	}
	network, address := p.address()
	args := []string{self, echoCommand, network, address}
	if p.transport == overTLS {
		args = append(args, l.certs)
	}
	return args
}}

const (
	echoRequest = 28
	echoReply   = 16
	echoGulp    = 256 << 10
)

// serveEcho serves connections until the program is killed, or something fails.
// args are a network, an address and perhaps a folder with certificates; one more says
// that Go's poller is to watch connections only while somebody sleeps for them.
func serveEcho(args []string) error {
	wrap := func(c net.Conn) net.Conn { return c }
	if len(args) > 2 {
		pair, err := tls.LoadX509KeyPair(filepath.Join(args[2], "server-cert.pem"), filepath.Join(args[2], "server-key.pem"))
		if err != nil {
			return err
		}
		config := &tls.Config{Certificates: []tls.Certificate{pair}, DynamicRecordSizingDisabled: true}
		wrap = func(c net.Conn) net.Conn {
			if len(args) > 3 {
				c = socket.New(c)
			}
			return tls.Server(newGather(c), config)
		}
	}
	l, err := net.Listen(args[0], args[1])
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			if err := echoConn(wrap(c)); err != nil {
				fmt.Fprintln(os.Stderr, "bench: echo:", err)
			}
		}()
	}
}

// echoConn answers until the client is gone. The first message of a connection
// holds the sizes of the payloads.
func echoConn(c net.Conn) error {
	defer c.Close()
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil // it was only to see whether we listen
	}
	ask := echoRequest + int(binary.BigEndian.Uint32(head[:]))
	answer := echoReply + int(binary.BigEndian.Uint32(head[4:]))
	in := make([]byte, echoGulp)
	out := make([]byte, max(echoGulp, answer))
	have := 0
	for {
		n, err := c.Read(in)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		have += n
		whole := have / ask
		have -= whole * ask // what the messages hold does not matter
		for whole > 0 {
			k := min(whole, len(out)/answer)
			if _, err := c.Write(out[:k*answer]); err != nil {
				return err
			}
			whole -= k
		}
	}
}

// A gather lies under crypto/tls, which makes a system call for each record of
// 16 KiB. It collects what is written until something is read, or there is
// much of it, and reads ahead: the limit is to have as few calls as a server
// can have.
type gather struct {
	net.Conn
	in  *bufio.Reader
	out *bufio.Writer
}

func newGather(c net.Conn) *gather {
	return &gather{c, bufio.NewReaderSize(c, echoGulp), bufio.NewWriterSize(c, echoGulp)}
}

func (g *gather) Write(p []byte) (int, error) { return g.out.Write(p) }

func (g *gather) Read(p []byte) (int, error) {
	// What has come already may be taken first; whoever waits for an answer
	// to what was written gets it before we wait.
	if g.in.Buffered() == 0 {
		if err := g.out.Flush(); err != nil {
			return 0, err
		}
	}
	return g.in.Read(p)
}
