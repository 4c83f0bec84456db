package etcd

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// A proxy stands between one client and a server, and holds up what passes.
type proxy struct {
	path     string // of its socket
	listener net.Listener
	target   string

	mu    sync.Mutex
	opens sync.Cond
	held  [2]bool // to the server, and back
	over  bool
	conns []net.Conn
	work  sync.WaitGroup
}

func newProxy(t testing.TB, dir, name, target string) *proxy {
	t.Helper()
	p := &proxy{path: filepath.Join(dir, name), target: target}
	p.opens.L = &p.mu
	var err error
	if p.listener, err = net.Listen("unix", p.path); err != nil {
		t.Fatal(err)
	}
	p.work.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.target)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		over := p.over
		p.mu.Unlock()
		p.work.Go(func() { p.copy(server, client, 0) })
		p.work.Go(func() { p.copy(client, server, 1) })
		if over {
			client.Close()
			server.Close()
		}
	}
}

func (p *proxy) copy(to, from net.Conn, direction int) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		for p.held[direction] && !p.over {
			p.opens.Wait()
		}
		p.mu.Unlock()
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// hold holds up what goes to the server and what comes back.
func (p *proxy) hold(requests, replies bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = [2]bool{requests, replies}
	p.opens.Broadcast()
}

// reset ends all connections.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *proxy) close() {
	p.mu.Lock()
	p.over = true
	p.opens.Broadcast()
	p.mu.Unlock()
	p.listener.Close()
	p.reset()
	p.work.Wait()
}

func TestProxyHolds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	p := newProxy(t, dir, "p", filepath.Join(dir, "s"))
	c, err := net.Dial("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p.hold(true, false)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	p.hold(false, false)
	b := make([]byte, 1)
	if _, err := io.ReadFull(c, b); err != nil || b[0] != 'x' {
		t.Errorf("%q, %v", b, err)
	}
	p.reset()
	if _, err := c.Read(b); err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("a connection that was reset: %v", err)
	}
}
