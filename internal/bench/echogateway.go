package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/socket"
	"github.com/strata-storage/strata/nbd"
	"github.com/strata-storage/strata/source"
)

// The limit of a cluster: an NBD server that stores nothing, and sends each write to two
// other processes, over TLS, which store nothing either and answer. It says what the
// layout costs: processes, connections and encryption.

const (
	// gatewayName is the name of the limit among the contenders.
	gatewayName = "echo: gateway and two peers, TLS"
	// gatewayCommand makes this program the limit. A socket, a folder of certificates
	// and the size of the disk in MiB follow.
	gatewayCommand = "-echo-gateway"
	gatewayPeers   = 2
	// longMessage is from which length on messages are encrypted from where they lie, by
	// goroutines for each peer.
	longMessage = 64 << 10
)

var echoGateway = server{name: gatewayName, command: func(l *lab, p place) []string {
	self, err := os.Executable()
	if err != nil {
		return []string{"false"}
	}
	return []string{self, gatewayCommand, p.socket, l.certs, strconv.Itoa(l.o.size)}
}}

// serveEchoGateway serves until the program is killed, or something fails.
func serveEchoGateway(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%q, expected a socket, a folder and a size", args)
	}
	size, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return err
	}
	disk, err := source.Null(context.Background(), source.NullOptions{Size: size << 20})
	if err != nil {
		return err
	}
	var peers []*gatewayPeer
	for range gatewayPeers {
		c, err := startEchoPeer(args[1])
		if err != nil {
			return err
		}
		peers = append(peers, c)
	}
	g := newGateway(disk, peers, func(err error) {
		fmt.Fprintln(os.Stderr, "bench: echo:", err)
		os.Exit(1)
	})
	l, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	return (&nbd.Server{Exports: nbd.Exports{{Device: g}}}).Serve(l)
}

// startEchoPeer starts a process that answers, in the same group, and connects to it.
func startEchoPeer(certs string) (*gatewayPeer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("127.0.0.1:%d", (&lab{}).freePort())
	cmd := exec.Command(self, echoCommand, "tcp", address, certs, "awake")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return dialEchoPeer(address, certs)
}

func dialEchoPeer(address, certs string) (*gatewayPeer, error) {
	pem, err := os.ReadFile(filepath.Join(certs, "ca-cert.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err != nil && time.Since(begin) < 5*time.Second {
			continue
		}
		if err != nil {
			return nil, err
		}
		under := &corked{Conn: socket.New(c), open: true}
		under.in = bufio.NewReaderSize(under.Conn, echoGulp)
		p := &gatewayPeer{under: under, conn: tls.Client(under, &tls.Config{RootCAs: roots, ServerName: "localhost", DynamicRecordSizingDisabled: true})}
		err = p.conn.Handshake()
		under.open = false
		return p, err
	}
}

// A corked connection lies under TLS, and sends when it is told to.
type corked struct {
	net.Conn
	in  *bufio.Reader
	mu  sync.Mutex
	out []byte
	// open: it sends at once, for the handshake.
	open bool
}

func (c *corked) Read(p []byte) (int, error) { return c.in.Read(p) }

func (c *corked) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open {
		return c.Conn.Write(p)
	}
	c.out = append(c.out, p...)
	if len(c.out) < echoGulp {
		return len(p), nil
	}
	return len(p), c.send()
}

func (c *corked) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.send()
}

func (c *corked) send() error {
	_, err := c.Conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// A gatewayPeer is the connection to a process that answers.
type gatewayPeer struct {
	conn  *tls.Conn
	under *corked
	out   []byte // guarded by the gateway, as all below
	spare []byte
	long  [][]byte // long messages, in pieces
	busy  bool     // somebody sends those
	size  int      // of a message
	ended int      // messages that were answered
}

// A gateway is a device whose writes are messages to others.
type gateway struct {
	block.Device
	mu      sync.Mutex
	peers   []*gatewayPeer
	sending sync.Mutex
	owed    bool
	settle  func()
	flying  []block.Ender // in order
	ended   int           // of all that ever flew
	fail    func(error)
}

func newGateway(disk block.Device, peers []*gatewayPeer, fail func(error)) *gateway {
	g := &gateway{Device: disk, peers: peers, fail: fail}
	g.settle = g.send
	for _, p := range peers {
		go func() { g.fail(g.receive(p)) }()
	}
	return g
}

// Info is that of block.Device.
func (g *gateway) Info() block.Info {
	i := g.Device.Info()
	i.NoWait = false
	return i
}

// StartWrite is that of block.Starter.
func (g *gateway) StartWrite(_ context.Context, p []byte, _ int64, _ block.Flags, b *block.Burst, e block.Ender) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, peer := range g.peers {
		if peer.size == 0 {
			// The first message of a connection says how long all are.
			peer.size = echoRequest + len(p)
			peer.out = binary.BigEndian.AppendUint32(peer.out, uint32(len(p)))
			peer.out = binary.BigEndian.AppendUint32(peer.out, 0)
		}
		if peer.size != echoRequest+len(p) {
			return false
		}
		peer.out = append(peer.out, make([]byte, echoRequest)...)
		if len(p) < longMessage {
			peer.out = append(peer.out, p...)
			continue
		}
		peer.long = append(peer.long, peer.out, p)
		peer.out = nil
		if !peer.busy {
			peer.busy = true
			go g.sendLong(peer)
		}
	}
	g.flying = append(g.flying, e)
	if !g.owed && len(p) < longMessage {
		g.owed = true
		b.Later(g.settle)
	}
	return true
}

// send sends what there is.
func (g *gateway) send() {
	g.sending.Lock()
	defer g.sending.Unlock()
	for _, p := range g.peers {
		g.mu.Lock()
		g.owed = false
		out := p.out
		p.out, p.spare = p.spare[:0], out
		g.mu.Unlock()
		_, err := p.conn.Write(out)
		if err = errors.Join(err, p.under.flush()); err != nil {
			g.fail(err)
		}
	}
}

// sendLong sends long messages to one peer, until there is none.
func (g *gateway) sendLong(p *gatewayPeer) {
	for {
		g.mu.Lock()
		list := p.long
		p.long, p.busy = nil, len(list) > 0
		g.mu.Unlock()
		if len(list) == 0 {
			return
		}
		for _, piece := range list {
			if _, err := p.conn.Write(piece); err != nil {
				g.fail(err)
			}
		}
		if err := p.under.flush(); err != nil {
			g.fail(err)
		}
	}
}

// receive ends what all have answered.
func (g *gateway) receive(p *gatewayPeer) error {
	in := make([]byte, echoGulp)
	var b block.Burst
	var list []block.Ender
	for have := 0; ; have %= echoReply {
		n, err := p.conn.Read(in)
		if err != nil {
			return err
		}
		have += n
		g.mu.Lock()
		p.ended += have / echoReply
		least := p.ended
		for _, o := range g.peers {
			least = min(least, o.ended)
		}
		n = least - g.ended
		g.ended = least
		list = append(list[:0], g.flying[:n]...)
		g.flying = append(g.flying[:0], g.flying[n:]...)
		g.mu.Unlock()
		for _, e := range list {
			e.Ended(nil, &b)
		}
		b.End()
	}
}
