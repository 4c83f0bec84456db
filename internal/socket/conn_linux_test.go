package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
)

// Connections beyond the limit stay what they are, and those that are closed
// make room.
func TestLimit(t *testing.T) {
	a, b := pair(t, "unix")
	before := conns.Load()
	conns.Add(maxConns)
	c, d := pair(t, "unix")
	if _, ok := c.(*net.UnixConn); !ok {
		t.Errorf("beyond the limit: %T", c)
	}
	conns.Add(-maxConns)
	for _, nc := range []net.Conn{a, b, c, d} {
		nc.Close()
		nc.Close()
	}
	if n := conns.Load(); n != before-2 {
		t.Errorf("%d connections are counted after closing 2 of %d", n, before)
	}
}

// A Vector sends from many places, more than one system call takes, and says
// when it would have to wait.
func TestVector(t *testing.T) {
	both(t, func(t *testing.T, a, b net.Conn) {
		v := NewVector(a)
		if v == nil {
			t.Fatalf("no vector for %T", a)
		}
		if sent, err := v.Send(false); !sent || err != nil {
			t.Errorf("of nothing: %v, %v", sent, err)
		}
		var wanted []byte
		for i := range 5000 {
			p := bytes.Repeat([]byte{byte(i)}, i%7000)
			wanted = append(wanted, p...)
			v.Add(p)
		}
		if sent, err := v.Send(false); sent || err != nil {
			t.Errorf("17 MB without waiting: %v, %v", sent, err)
		}
		done := asleep(func() error {
			sent, err := v.Send(true)
			if err == nil && !sent {
				err = errors.New("not sent")
			}
			return err
		})
		got := make([]byte, len(wanted))
		if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, wanted) {
			t.Errorf("received something else, %v", err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A connection that does something with what is written is no plain socket,
// although it has the descriptor of one.
func TestWrappedIsNotPlain(t *testing.T) {
	a, _ := pair(t, "unix")
	if NewVector(struct{ *Conn }{a.(*Conn)}) != nil {
		t.Error("a vector goes around a wrapper")
	}
}

// A patient reader gets what others send before and after it sleeps.
func TestPatient(t *testing.T) {
	both(t, func(t *testing.T, a, b net.Conn) {
		a.(*Conn).Patient(true)
		b.(*Conn).Patient(true)
		const rounds = 2000
		answered := make(chan error, 1)
		go func() {
			var p [1]byte
			for range rounds {
				if _, err := io.ReadFull(b, p[:]); err != nil {
					answered <- err
					return
				}
				if _, err := b.Write(p[:]); err != nil {
					answered <- err
					return
				}
			}
			answered <- nil
		}()
		for i := range rounds {
			p := [1]byte{byte(i)}
			if _, err := a.Write(p[:]); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(a, p[:]); err != nil || p[0] != byte(i) {
				t.Fatalf("%d, %v", p[0], err)
			}
		}
		if err := <-answered; err != nil {
			t.Error(err)
		}
	})
}

// WriteNow writes what there is room for, and waits for nobody.
func TestWriteNow(t *testing.T) {
	both(t, func(t *testing.T, a, b net.Conn) {
		p := bytes.Repeat([]byte{1, 2, 3}, 5<<20)
		n, err := a.(*Conn).WriteNow(p)
		if err != nil || n == 0 || n == len(p) {
			t.Fatalf("%d of %d bytes, %v", n, len(p), err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := a.Write(p[n:])
			done <- err
		}()
		got := make([]byte, len(p))
		if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, p) {
			t.Errorf("received something else, %v", err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
