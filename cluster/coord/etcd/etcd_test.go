package etcd

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/coordtest"
)

func TestMain(m *testing.M) {
	// Nearly all that these tests do is to wait, for leases and elections in
	// real time: more of them than there are processors can do so at a time.
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	// Connections between members, which are etcd's, outlive them by seconds.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"),
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"))
}

// tempDir is one whose path is short enough for sockets.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "coord")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// quick are options for members that choose leaders in no time and forget all in
// a power cut.
func quick(name, dir string) ServerOptions {
	return ServerOptions{Name: name, Dir: dir, Heartbeat: 50 * time.Millisecond, Election: 500 * time.Millisecond, noSync: true}
}

func start(t testing.TB, o ServerOptions) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func dial(t testing.TB, o Options) *Client {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second // the machine may stand still for a while
	}
	c, err := Dial(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// throughProxy returns a client, and the proxy before the server with that socket.
func throughProxy(t testing.TB, dir, name, prefix, socket string) (*Client, *proxy) {
	t.Helper()
	p := newProxy(t, dir, name, socket)
	return dial(t, Options{Endpoints: []string{"unix://" + p.path}, Prefix: prefix}), p
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, c coord.Store, key string, value []byte) coord.Revision {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		r, err := c.Txn(ctx, coord.Txn{Then: []coord.Op{coord.Put(key, value)}})
		if errors.Is(err, coord.ErrUnavailable) {
			continue // repeated until it is done at least once
		}
		ok(t, err)
		return r.Revision
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	server := start(t, quick("one", dir))
	admin := dial(t, Options{Endpoints: []string{server.Endpoint()}})
	var mu sync.Mutex
	n := 0
	coordtest.Run(t, coordtest.Options{}, func(t *testing.T) coordtest.System {
		proxies := map[coord.Store]*proxy{}
		mu.Lock()
		n++
		prefix := fmt.Sprintf("test%d/", n)
		mu.Unlock()
		return coordtest.System{
			Join: func() coord.Store {
				mu.Lock()
				defer mu.Unlock()
				n++
				c, p := throughProxy(t, dir, fmt.Sprint("p", n), prefix, filepath.Join(dir, "client"))
				proxies[c] = p
				return c
			},
			Cut: func(s coord.Store, requests, replies bool) {
				mu.Lock()
				p := proxies[s]
				mu.Unlock()
				p.hold(requests, replies)
			},
			Compact: func() { compact(t, admin) },
			TTL:     2 * time.Second,
		}
	})
}

func compact(t testing.TB, c *Client) {
	t.Helper()
	_, r, err := c.Get(t.Context(), "any")
	ok(t, err)
	_, err = c.client.Compact(t.Context(), int64(r), clientv3.WithCompactPhysical())
	ok(t, err)
}

// More entries than fit into one page are still those of one revision.
func TestListPages(t *testing.T) {
	t.Parallel()
	server := start(t, quick("one", tempDir(t)))
	c := dial(t, Options{Endpoints: []string{server.Endpoint()}, Prefix: "p/"})
	const n = 2*pageSize + 7
	write := func(generation string) {
		for from := 0; from < n; from += coord.MaxOps {
			var ops []coord.Op
			for i := from; i < min(n, from+coord.MaxOps); i++ {
				ops = append(ops, coord.Put(fmt.Sprintf("k/%05d", i), []byte(generation)))
			}
			if _, err := c.Txn(context.Background(), coord.Txn{Then: ops}); err != nil {
				t.Error(err)
			}
		}
	}
	write("0")
	var writing sync.WaitGroup
	writing.Go(func() { write("1") })
	for range 20 {
		es, r, err := c.List(t.Context(), "k/")
		ok(t, err)
		if len(es) != n {
			t.Fatalf("%d entries, want %d", len(es), n)
		}
		first := false // generation 0 was seen: then it is what follows, too
		for i, e := range es {
			if want := fmt.Sprintf("k/%05d", i); e.Key != want || e.Revision > r {
				t.Fatalf("entry %d is %s of revision %d at %d", i, e.Key, e.Revision, r)
			}
			if first = first || string(e.Value) == "0"; first && string(e.Value) != "0" {
				t.Fatalf("entry %d at revision %d was put after one that was not", i, r)
			}
		}
	}
	writing.Wait()
}

// What was put is there when the server comes back, and clients find that out by
// themselves.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	o := quick("one", dir)
	o.noSync = false
	server := start(t, o)
	c := dial(t, Options{Endpoints: []string{server.Endpoint()}})
	l, err := coord.NewLease(t.Context(), c, 20*time.Second)
	ok(t, err)
	r := put(t, c, "k", []byte("v"))
	_, err = c.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.PutLeased(l.ID(), "leased", nil)}})
	ok(t, err)
	changes := make(chan coord.Change)
	var watching sync.WaitGroup
	watching.Go(func() {
		defer close(changes)
		for change, err := range c.Watch(context.Background(), "k", r) {
			if err != nil {
				if !errors.Is(err, coord.ErrClosed) {
					t.Errorf("the watch ended with %v", err)
				}
				return
			}
			changes <- change
		}
	})
	for i := range 2 {
		server.Close()
		<-server.Done()
		server = start(t, o)
		e, _, err := dial(t, Options{Endpoints: []string{server.Endpoint()}}).Get(t.Context(), "k")
		if want := strings.Repeat("v", i+1); err != nil || string(e.Value) != want {
			t.Fatalf("after a restart: %+v, %v; want %s", e, err, want)
		}
		r := put(t, c, "k", []byte(strings.Repeat("v", i+2)))
		if got := <-changes; got.Revision > r || len(got.Events) != 1 {
			t.Errorf("the watch has %+v, want revision %d", got, r)
		}
		ok(t, l.Wait(t.Context()))
	}
	e, _, err := c.Get(t.Context(), "leased")
	if err != nil || e.Lease != l.ID() {
		t.Errorf("the leased entry: %+v, %v", e, err)
	}
	ok(t, l.Revoke(t.Context()))
	ok(t, c.Close())
	for range changes {
	}
	watching.Wait()
}

// freeURL is one of this machine that nobody listens on.
func freeURL(t testing.TB, scheme string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	defer l.Close()
	return scheme + "://" + l.Addr().String()
}

// A watch goes on where it was at another server, at once, when there is another one to be
// asked: the one before may have been removed, and keep the connection.
func TestWatchMoves(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	server := start(t, quick("one", dir))
	c := dial(t, Options{Endpoints: []string{server.Endpoint()}})
	w, p := throughProxy(t, dir, "p", "", filepath.Join(dir, "client"))
	want := put(t, c, "k", nil)
	n, began := 0, time.Time{}
	for change, err := range w.Watch(t.Context(), "k", want-1) {
		ok(t, err)
		if change.Revision != want {
			t.Fatalf("revision %d, want %d", change.Revision, want)
		}
		if n++; n == 2 {
			// The watch itself would see it after 4 s, its connection after 13 s.
			if d := time.Since(began); d > 2*pingWatch {
				t.Errorf("it took %v", d)
			}
			break
		}
		began = time.Now()
		p.hold(true, true)
		ok(t, w.SetEndpoints([]string{server.Endpoint()}))
		want = put(t, c, "k", nil)
	}
}

// A watch goes on where it was when its connections are broken.
func TestWatchReconnects(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	server := start(t, quick("one", dir))
	c := dial(t, Options{Endpoints: []string{server.Endpoint()}})
	w, p := throughProxy(t, dir, "p", "", filepath.Join(dir, "client"))
	want := put(t, c, "k", nil)
	n := 0
	for change, err := range w.Watch(t.Context(), "k", want-1) {
		ok(t, err)
		if change.Revision != want {
			t.Fatalf("revision %d, want %d", change.Revision, want)
		}
		if n++; n == 30 {
			break
		}
		if n%10 == 0 {
			p.reset()
		}
		want = put(t, c, "k", nil)
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	o := quick("one", tempDir(t))
	o.Quota, o.upkeep = 4<<20, 100*time.Millisecond
	server := start(t, o)
	c := dial(t, Options{Endpoints: []string{server.Endpoint()}})
	value := bytes.Repeat([]byte{1}, coord.MaxValue)
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		_, err = c.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.Put(fmt.Sprint("k/", i), value)}})
	}
	if !errors.Is(err, coord.ErrFull) {
		t.Fatalf("putting more than the quota: %v", err)
	}
	_, err = c.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.Delete("k/0")}})
	ok(t, err)
	es, _, err := c.List(t.Context(), "k/")
	ok(t, err)
	if len(es) == 0 || es[0].Key != "k/1" {
		t.Errorf("%d entries are left", len(es))
	}

	// When enough is deleted, there is room again after a while.
	for _, e := range es[1:] {
		_, err = c.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.Delete(e.Key)}})
		ok(t, err)
	}
	for err = coord.ErrFull; errors.Is(err, coord.ErrFull) && t.Context().Err() == nil; {
		_, err = c.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.Put("k/new", value)}})
	}
	ok(t, err)
	ok(t, server.shrink(t.Context()))
	es, _, err = c.List(t.Context(), "k/")
	ok(t, err)
	if len(es) != 2 || es[0].Key != "k/1" || !bytes.Equal(es[0].Value, value) {
		t.Errorf("%d entries are there after that", len(es))
	}
}

// Without a server there is an error in time, and a lease that comes to nothing.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	c := dial(t, Options{Endpoints: []string{"unix://" + filepath.Join(tempDir(t), "none")}, Timeout: 200 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	_, _, getErr := c.Get(t.Context(), "k")
	_, _, listErr := c.List(t.Context(), "k")
	_, txnErr := c.Txn(t.Context(), coord.Txn{})
	_, leaseErr := coord.NewLease(t.Context(), c, time.Second)
	_, renewErr := c.Renew(t.Context(), 1)
	for i, err := range []error{getErr, listErr, txnErr, leaseErr, renewErr, c.Revoke(t.Context(), 1)} {
		if !errors.Is(err, coord.ErrUnavailable) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for _, err := range c.Watch(ctx, "k", 0) {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the watch: %v", err)
		}
	}
}
