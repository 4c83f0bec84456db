package nbd

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/peer"
)

// restartTest writes a disk of 16 MiB through c with several goroutines while
// restart is called, and compares it with what was written.
func restartTest(t *testing.T, c *Client, restart func()) {
	t.Helper()
	const size, step, writers = 16 << 20, 64 << 10, 8
	want := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(want)
	var wg sync.WaitGroup
	halfway := make(chan struct{}, writers)
	for w := range writers {
		wg.Go(func() {
			for off := int64(w * step); off < size; off += writers * step {
				if off > size/2 && off <= size/2+writers*step {
					halfway <- struct{}{}
				}
				if err := c.WriteAt(t.Context(), want[off:off+step], off, 0); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	<-halfway
	restart()
	wg.Wait()
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Losses() < int64(c.Conns()) {
		t.Errorf("%d connections were lost, expected all of %d", c.Losses(), c.Conns())
	}
	got := make([]byte, size)
	if err := c.ReadAt(t.Context(), got, 0, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the disk differs from what was written")
	}
}

// A server that is killed in the middle and comes back costs time only.
func TestClientSurvivesKill(t *testing.T) {
	t.Parallel()
	path := peer.Need(t, "nbdkit")
	dir, err := os.MkdirTemp("", "nbd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	disk, socket := filepath.Join(dir, "disk"), filepath.Join(dir, "s")
	if err := os.WriteFile(disk, make([]byte, 16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	var cmd *exec.Cmd
	start := func() {
		os.Remove(socket)
		cmd = exec.Command(path, "-f", "-U", socket, "file", disk)
		if err := cmd.Start(); err != nil {
			t.Error(err)
		}
	}
	stop := func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	start()
	t.Cleanup(func() { stop() })
	peer.Await(t, socket)
	for _, conns := range []int{1, 4} {
		c := dialTest(t, &Dialer{Conns: conns}, "nbd+unix:///?socket="+socket)
		restartTest(t, c, func() {
			stop()
			start()
		})
		c.Close()
	}
}

// The same with a server of ours that is closed, with and without TLS.
func TestClientSurvivesClose(t *testing.T) {
	t.Parallel()
	cfg, files := labTLS(t)
	for _, uri := range []string{"nbd:///", "nbds:///?tls-certificates=" + files} {
		for _, replies := range []Replies{SimpleReplies, ExtendedReplies} {
			dev := block.FromBytes(make([]byte, 16<<20))
			serve := func() *Server {
				return &Server{Exports: Exports{{Device: dev}}, TLS: TLSOptional, TLSConfig: cfg}
			}
			var mu sync.Mutex
			s := serve()
			d := &Dialer{Conns: 2, Replies: replies, Connect: func(context.Context) (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				if s == nil {
					return nil, errors.New("no server")
				}
				mine, theirs := socketPair(t)
				go s.ServeConn(context.Background(), theirs)
				return mine, nil
			}}
			c := dialTest(t, d, uri)
			for range 3 {
				restartTest(t, c, func() {
					mu.Lock()
					old := s
					s = nil
					mu.Unlock()
					old.Close()
					mu.Lock()
					s = serve()
					mu.Unlock()
				})
			}
			c.Close()
			s.Close()
		}
	}
}

// Connections that a server does not grant are done without.
func TestClientFewerConnections(t *testing.T) {
	t.Parallel()
	s := &Server{Exports: memExport(1 << 20), Limits: Limits{Conns: 3}}
	d := toServer(t, s)
	d.Conns = 8
	c := dialTest(t, d, "nbd:///vm")
	if c.Conns() != 3 {
		t.Errorf("%d connections", c.Conns())
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	s = &Server{Exports: Exports{{Name: "vm", Exclusive: true, Device: block.FromBytes(make([]byte, 512))}}}
	d = toServer(t, s)
	d.Conns = 8
	if c := dialTest(t, d, "nbd:///vm"); c.Conns() != 1 {
		t.Errorf("%d connections to an export that is not shared", c.Conns())
	}
}

// Cancelling at random, with and without TLS, breaks nothing.
func TestClientCancelsAtRandom(t *testing.T) {
	t.Parallel()
	cfg, files := labTLS(t)
	for _, uri := range []string{"nbd:///vm", "nbds:///vm?tls-certificates=" + files} {
		s := &Server{Exports: memExport(4 << 20), TLS: TLSOptional, TLSConfig: cfg}
		d := toServer(t, s)
		d.Conns = 2
		c := dialTest(t, d, uri)
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(3, uint64(w)))
				// Each has a part of its own, so that the content is known.
				base := int64(w) * (4 << 20) / 8
				for i := range 40 {
					p := bytes.Repeat([]byte{byte(i + w)}, r.IntN(100<<10)+1)
					ctx, cancel := context.WithCancel(t.Context())
					quit := make(chan struct{})
					patience := r.IntN(2000)
					go func() {
						for range patience {
							select {
							case <-quit:
								return
							default:
							}
						}
						cancel()
					}()
					werr := c.WriteAt(ctx, p, base, 0)
					close(quit)
					cancel()
					if werr != nil && !errors.Is(werr, context.Canceled) {
						t.Errorf("write: %v", werr)
					}
					// Nothing of a cancelled write comes after this one.
					mark := bytes.Repeat([]byte{0xee}, len(p))
					if err := c.WriteAt(t.Context(), mark, base, 0); err != nil {
						t.Errorf("write: %v", err)
					}
					clear(p)
					if err := c.ReadAt(t.Context(), p, base, 0); err != nil || !bytes.Equal(p, mark) {
						t.Errorf("read differs, %v", err)
					}
				}
			})
		}
		wg.Wait()
	}
}
