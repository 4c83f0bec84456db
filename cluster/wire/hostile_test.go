package wire

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// A raw is a connection whose partner is a test, after the hellos.
type raw struct {
	t  *testing.T
	nc net.Conn
	// ended gets the error of ServeConn.
	ended chan error
}

// dialRaw says hello to s.
func dialRaw(t *testing.T, s *Server) *raw {
	t.Helper()
	a, b := net.Pipe()
	r := &raw{t, a, make(chan error, 1)}
	go func() { r.ended <- s.ServeConn(b) }()
	id := newSessionID()
	h := hello{Version, Version, self, partner.Node, id, 0, Limits{}.WithDefaults().told()}
	if err := sendHello(a, header{kind: kindHello}, h.appendTo(nil)); err != nil {
		t.Fatal(err)
	}
	var in header
	if _, err := receiveHello(a, &in); err != nil || in.kind != kindWelcome {
		t.Fatalf("got a frame of kind %d, %v", in.kind, err)
	}
	return r
}

func (r *raw) send(h header, head, payload []byte) {
	var f frame
	f.set(h, head, payload)
	r.nc.Write(f.small)
	r.nc.Write(payload)
}

// drain reads until the connection ends.
func (r *raw) drain() { io.Copy(io.Discard, r.nc) }

// What a client may not send ends its connection, and says why.
func TestViolationsOfClients(t *testing.T) {
	t.Parallel()
	request := header{kind: kindRequest, op: uint16(opBlock), id: 1 << 16}
	for name, send := range map[string]func(r *raw){
		"noise":            func(r *raw) { r.nc.Write(make([]byte, 100)) },
		"another version":  func(r *raw) { r.nc.Write(append([]byte("SWF\x02"), make([]byte, 28)...)) },
		"flags":            func(r *raw) { r.nc.Write(append([]byte("SWF\x01\x09\x01"), make([]byte, 26)...)) },
		"a reply":          func(r *raw) { r.send(header{kind: kindReply, id: 1}, nil, nil) },
		"a second hello":   func(r *raw) { r.send(header{kind: kindHello}, nil, nil) },
		"kind 0":           func(r *raw) { r.send(header{}, nil, nil) },
		"kind 200":         func(r *raw) { r.send(header{kind: 200}, nil, nil) },
		"goodbye":          func(r *raw) { r.send(header{kind: kindGoodbye}, nil, nil) },
		"ping with a head": func(r *raw) { r.send(header{kind: kindPing}, []byte("x"), nil) },
		"a slot too high":  func(r *raw) { r.send(header{kind: kindRequest, id: 256}, nil, nil) },
		"the same slot twice": func(r *raw) {
			r.send(request, nil, nil)
			r.send(header{kind: kindRequest, op: 1, id: 2 << 16}, nil, nil)
		},
		"too much room":  func(r *raw) { r.send(header{kind: kindRequest, op: 1, room: 9 << 20}, nil, nil) },
		"all the room":   func(r *raw) { r.send(header{kind: kindRequest, op: 1, room: 1<<32 - 1}, nil, nil) },
		"a small window": func(r *raw) { r.send(header{kind: kindStream, op: 1, room: 10}, nil, nil) },
		"a large window": func(r *raw) { r.send(header{kind: kindStream, op: 1, room: 1 << 20}, nil, nil) },
		"credit for none": func(r *raw) {
			r.send(request, nil, nil)
			r.send(header{kind: kindCredit, id: 1 << 16, room: 1}, nil, nil)
		},
		"too much credit": func(r *raw) {
			r.send(header{kind: kindStream, op: uint16(opBlock), id: 1 << 16, room: 8192}, nil, nil)
			r.send(header{kind: kindCredit, id: 1 << 16, room: 1}, nil, nil)
		},
		"too many bytes": func(r *raw) {
			for i := range uint64(9) {
				r.send(header{kind: kindRequest, op: uint16(opBlock), id: i, room: 8 << 20}, nil, nil)
			}
		},
		"a large head": func(r *raw) {
			var p [headerSize]byte
			(&header{kind: kindRequest, head: 1 << 30}).put(p[:])
			r.nc.Write(p[:])
		},
		"a large payload": func(r *raw) {
			var p [headerSize]byte
			(&header{kind: kindRequest, payload: 1<<32 - 1}).put(p[:])
			r.nc.Write(p[:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := dialRaw(t, newServer())
			go r.drain()
			within(t, "the connection", func() {
				send(r)
				expect(t, <-r.ended, ErrViolation)
			})
		})
	}
}

// dialledByRaw is a client whose server is f, after the hellos. It returns what the
// request of the client got.
func dialledByRaw(t *testing.T, stream bool, f func(r *raw, h header)) error {
	t.Helper()
	o := Options{Self: self, Node: partner.Node, Conns: 1, Dial: func(context.Context) (net.Conn, error) {
		a, b := net.Pipe()
		go func() {
			defer b.Close()
			var in header
			p, _ := receiveHello(b, &in)
			var h hello
			h.parse(p)
			out := hello{Version, Version, partner, "", h.session, h.lane, Limits{}.WithDefaults().told()}
			sendHello(b, header{kind: kindWelcome}, out.appendTo(nil))
			limits := Limits{}.WithDefaults().told()
			g := newGulp(b, &limits)
			for in.kind != kindRequest && in.kind != kindStream {
				if g.next(&in) != nil {
					return
				}
			}
			r := &raw{t, b, nil}
			gone := make(chan struct{})
			go func() { // what the client sends
				defer close(gone)
				for g.next(&header{}) == nil {
				}
			}()
			f(r, in)
			<-gone
		}()
		return a, nil
	}}
	c, err := Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !stream {
		_, err = c.Do(t.Context(), Call{Op: opEcho, Into: make([]byte, 1000)})
		return err
	}
	for _, err = range c.Stream(t.Context(), Call{Op: opEcho}) {
		if err != nil {
			break
		}
	}
	return err
}

func TestViolationsOfServers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		stream bool
		send   func(r *raw, h header)
	}{
		"noise":             {false, func(r *raw, h header) { r.nc.Write(make([]byte, 100)) }},
		"a request":         {false, func(r *raw, h header) { r.send(h, nil, nil) }},
		"another id":        {false, func(r *raw, h header) { r.send(header{kind: kindReply, id: h.id + 1<<16}, nil, nil) }},
		"a slot too high":   {false, func(r *raw, h header) { r.send(header{kind: kindReply, id: h.id + 9}, nil, nil) }},
		"a long reply":      {false, func(r *raw, h header) { r.send(header{kind: kindReply, id: h.id}, nil, make([]byte, 1001)) }},
		"an error and data": {false, func(r *raw, h header) { r.send(header{kind: kindReply, op: 1, id: h.id}, nil, make([]byte, 10)) }},
		"an item":           {false, func(r *raw, h header) { r.send(header{kind: kindItem, id: h.id}, nil, nil) }},
		"two replies": {true, func(r *raw, h header) {
			r.send(header{kind: kindItem, id: h.id}, nil, nil)
			r.send(header{kind: kindReply, id: h.id + 1}, nil, nil)
		}},
		"a stream's payload":   {true, func(r *raw, h header) { r.send(header{kind: kindReply, id: h.id}, nil, make([]byte, 10)) }},
		"more than the window": {true, func(r *raw, h header) { r.send(header{kind: kindItem, id: h.id}, nil, make([]byte, 300<<10)) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				err := dialledByRaw(t, test.stream, test.send)
				if !errors.Is(err, ErrLost) || !errors.Is(err, ErrViolation) {
					t.Errorf("got %v, expected a violation", err)
				}
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// A client that sends requests and takes no replies gets the server to hold no more
// than the limits allow.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(func(s *Server) { s.Limits = Limits{Payload: 1 << 20, Bytes: 4 << 20, TotalBytes: 8 << 20} })
		s.Operations[opRead] = Operation{Handler: read, Inline: true} // is done at once
		r := dialRaw(t, s)
		sent := make(chan int, 1)
		go func() {
			n := 0
			var f frame
			for {
				f.set(header{kind: kindRequest, op: uint16(opRead), id: uint64(n)<<16 | uint64(n%100), room: 1 << 20}, nil, nil)
				if _, err := r.nc.Write(f.small); err != nil {
					sent <- n
					return
				}
				n++
			}
		}()
		s.work.Wait()
		if n := <-sent; n > 20 {
			t.Errorf("%d requests of 1 MiB were taken, 8 MiB allowed", n)
		}
		if err := <-r.ended; !errors.Is(err, ErrSilent) {
			t.Errorf("it ended with %v", err)
		}
		synctest.Wait()
		if s.memory.Free() != 8<<20 {
			t.Errorf("%d bytes were not given back", 8<<20-s.memory.Free())
		}
	})
}

// frames makes frames of random bytes, most of which are nearly right.
func frames(rnd *rand.Rand, p []byte) []byte {
	var b []byte
	for len(p) > 0 {
		h := header{
			kind: kind(rnd.IntN(13)), op: uint16(rnd.IntN(8)), id: uint64(rnd.IntN(4)) << 16 & 0x30000,
			room: uint32(rnd.IntN(3) * 5000), millis: uint32(rnd.IntN(3)),
		}
		h.id |= uint64(p[0] & 7)
		n := min(int(p[0])*4, len(p))
		var f frame
		f.set(h, p[:n/8], p[n/8:n])
		b = append(append(b, f.small...), f.payload...)
		if p[0]%16 == 3 {
			b[len(b)-1-rnd.IntN(len(b))] ^= 1 << (p[0] % 8)
		}
		p = p[max(n, 1):]
	}
	return b
}

func FuzzServer(f *testing.F) {
	f.Add([]byte("SWF\x01"), uint64(1), true)
	f.Add(make([]byte, 3000), uint64(2), true)
	f.Fuzz(func(t *testing.T, p []byte, seed uint64, framed bool) {
		s := newServer(func(s *Server) { s.Limits = Limits{Requests: 5, Silence: time.Second} })
		r := dialRaw(t, s)
		go r.drain()
		if framed {
			p = frames(rand.New(rand.NewPCG(seed, 0)), p)
		}
		r.nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
		r.nc.Write(p)
		r.nc.Close()
		within(t, "the server", func() { <-r.ended })
		if free := s.memory.Free(); free != s.limits.TotalBytes {
			t.Fatalf("%d bytes were not given back", s.limits.TotalBytes-free)
		}
	})
}

func FuzzClient(f *testing.F) {
	f.Add([]byte("SWF\x01"), uint64(1), true, false)
	f.Add(make([]byte, 3000), uint64(2), true, true)
	f.Fuzz(func(t *testing.T, p []byte, seed uint64, framed, stream bool) {
		if framed {
			p = frames(rand.New(rand.NewPCG(seed, 0)), p)
		}
		within(t, "the client", func() {
			dialledByRaw(t, stream, func(r *raw, _ header) {
				r.nc.Write(p)
				r.nc.Close()
			})
		})
	})
}

func FuzzHello(f *testing.F) {
	h := hello{Version, Version, self, "b", newSessionID(), 3, Limits{}.WithDefaults().told()}
	f.Add(h.appendTo(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		var a, b hello
		if a.parse(p) != nil {
			return
		}
		if err := b.parse(a.appendTo(nil)); err != nil || a != b {
			t.Fatalf("%+v came back as %+v, %v", a, b, err)
		}
	})
}

func FuzzHeader(f *testing.F) {
	var p [headerSize]byte
	(&header{kind: kindRequest, op: 3, id: 9, head: 2, payload: 3, millis: 4, room: 5}).put(p[:])
	f.Add(p[:])
	limits := Limits{}.WithDefaults().told()
	f.Fuzz(func(t *testing.T, p []byte) {
		var h header
		if len(p) != headerSize || h.parse(p, &limits) != nil {
			return
		}
		var again [headerSize]byte
		h.put(again[:])
		if string(p) != string(again[:]) {
			t.Fatalf("%x came back as %x", p, again)
		}
	})
}
