package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pair returns the two ends of a connection, both made by New.
func pair(t *testing.T, network string) (net.Conn, net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a, b = New(a), New(b)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// both runs test over each kind of socket.
func both(t *testing.T, test func(t *testing.T, a, b net.Conn)) {
	t.Parallel()
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, network)
			test(t, a, b)
		})
	}
}

// More than the buffers of the socket hold comes through whole, in both
// directions at once: everybody has to sleep, and is woken.
func TestStream(t *testing.T) {
	both(t, func(t *testing.T, a, b net.Conn) {
		const size = 4 << 20
		var wg sync.WaitGroup
		for i, c := range []net.Conn{a, b} {
			sent := bytes.Repeat([]byte{byte(i + 1), 7, 11}, size/3)
			wanted := bytes.Repeat([]byte{byte(2 - i), 7, 11}, size/3)
			wg.Go(func() {
				if n, err := c.Write(sent); n != len(sent) || err != nil {
					t.Errorf("Write = %d, %v", n, err)
				}
			})
			wg.Go(func() {
				got := make([]byte, len(wanted))
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, wanted) {
					t.Errorf("read something else, %v", err)
				}
			})
		}
		wg.Wait()
	})
}

// Writes of several goroutines do not get between each other.
func TestWritesDoNotMix(t *testing.T) {
	both(t, func(t *testing.T, a, b net.Conn) {
		const size = 2 << 20
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() { a.Write(bytes.Repeat([]byte{byte(i)}, size)) })
		}
		got := make([]byte, size)
		for range 3 {
			if _, err := io.ReadFull(b, got); err != nil || bytes.Count(got, got[:1]) != size {
				t.Errorf("a write has others in it, %v", err)
			}
		}
		wg.Wait()
	})
}

// Each of many short messages finds a receiver that sleeps: none is missed.
func TestPingPong(t *testing.T) {
	both(t, func(t *testing.T, a, b net.Conn) {
		go io.Copy(b, b)
		p := make([]byte, 1)
		for i := range 10000 {
			p[0] = byte(i)
			if _, err := a.Write(p); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Read(p); err != nil || p[0] != byte(i) {
				t.Fatalf("round %d: %d, %v", i, p[0], err)
			}
		}
	})
}

// What comes while the receiver wakes up is not missed either: the end of many
// connections right behind a message.
func TestEndBehindMessage(t *testing.T) {
	t.Parallel()
	for range 3000 {
		a, b := pair(t, "unix")
		go func() {
			a.Write([]byte("x"))
			a.Write([]byte("y"))
			a.Close()
		}()
		if got, err := io.ReadAll(b); string(got) != "xy" || err != nil {
			t.Fatalf("ReadAll = %q, %v", got, err)
		}
		b.Close()
	}
}

// The end of the stream is io.EOF, and what the peer has closed cannot be
// written to.
func TestEnd(t *testing.T) {
	both(t, func(t *testing.T, a, b net.Conn) {
		a.Write([]byte("x"))
		a.Close()
		if got, err := io.ReadAll(b); string(got) != "x" || err != nil {
			t.Errorf("ReadAll = %q, %v", got, err)
		}
		for {
			if _, err := b.Write(make([]byte, 1<<16)); err != nil {
				if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
					t.Error(err)
				}
				return
			}
		}
	})
}

// asleep runs f, which must sleep, and returns the channel with its error.
func asleep(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// Closing wakes who reads and who writes.
func TestCloseWakes(t *testing.T) {
	both(t, func(t *testing.T, a, _ net.Conn) {
		reading := asleep(func() error { _, err := a.Read(make([]byte, 1)); return err })
		writing := asleep(func() error { _, err := a.Write(make([]byte, 64<<20)); return err })
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		for _, done := range []<-chan error{reading, writing} {
			if err := <-done; !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if err := a.Close(); !errors.Is(err, net.ErrClosed) {
			t.Error("second Close:", err)
		}
		if err := a.SetReadDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Error("deadline after Close:", err)
		}
	})
}

// A deadline ends a Read and a Write that sleep and those that would not have
// to; without it they go on.
func TestDeadlines(t *testing.T) {
	both(t, func(t *testing.T, a, b net.Conn) {
		reading := asleep(func() error { _, err := a.Read(make([]byte, 1)); return err })
		writing := asleep(func() error { _, err := a.Write(make([]byte, 64<<20)); return err })
		a.SetDeadline(time.Unix(1, 0))
		for _, done := range []<-chan error{reading, writing} {
			if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		}
		b.Write([]byte("x"))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("with something to read:", err)
		}
		a.SetReadDeadline(time.Time{})
		if n, err := a.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("without a deadline: %d, %v", n, err)
		}
		var timeout net.Error
		_, err := a.Write([]byte("x"))
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%v is no timeout", err)
		}
	})
}

// Nothing is allocated for a Read, a Write or a Send, asleep or not.
func TestAllocations(t *testing.T) {
	a, b := pair(t, "unix")
	go io.Copy(b, b)
	v := NewVector(a)
	p := make([]byte, 64)
	round := func() {
		if v == nil {
			a.Write(p)
		} else {
			v.Add(p[:32])
			v.Add(p[32:])
			v.Send(true)
		}
		io.ReadFull(a, p)
	}
	round()
	if n := testing.AllocsPerRun(1000, round); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is no socket of the system stays what it is.
func TestOtherConnections(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer b.Close()
	defer a.Close()
	if got := New(a); got != a {
		t.Errorf("New(%T) = %T", a, got)
	}
	if NewVector(a) != nil {
		t.Error("a vector for a pipe")
	}
}
