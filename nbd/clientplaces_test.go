package nbd

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
)

// somewhere serves dev, under any name, until stop is called. names gets those asked for.
func somewhere(t *testing.T, dev block.Device, names func(string)) (address string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Exports: anyName{dev, names}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(l)
	}()
	stop = sync.OnceFunc(func() {
		s.Close()
		<-done
	})
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

// anyName has a device under all names.
type anyName struct {
	dev   block.Device
	names func(string)
}

func (a anyName) Resolve(_ context.Context, r *ExportRequest) (*Export, error) {
	a.names(r.Name)
	return &Export{Name: r.Name, Device: block.Keep(a.dev)}, nil
}

func (a anyName) List(context.Context, *Peer) ([]*Export, error) { return nil, nil }

// A client goes from one server to the next when one dies, and says each time who it is.
func TestClientMoves(t *testing.T) {
	t.Parallel()
	disk := block.FromBytes(make([]byte, 16<<20))
	var mu sync.Mutex
	var asked []string
	note := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, name)
	}
	var addresses []string
	var stops []func()
	for range 3 {
		a, stop := somewhere(t, disk, note)
		addresses, stops = append(addresses, a), append(stops, stop)
	}
	n := 0
	c := dialTest(t, &Dialer{
		Addresses:  append([]string{"127.0.0.1:1"}, addresses...),
		ExportName: func() string { n++; return fmt.Sprint("disk-", n) },
	}, "nbd://none.invalid/disk")
	restartTest(t, c, stops[0])
	stops[1]()
	if err := c.WriteAt(t.Context(), []byte("hello"), 0, 0); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	// The first place is not there.
	if want := []string{"disk-1", "disk-2", "disk-3"}; !slices.Equal(slices.Compact(asked), want) {
		t.Errorf("asked for %v, expected %v", asked, want)
	}
}

// A server that takes connections and says nothing is left out; so is one that stops to
// answer.
func TestClientLeavesSilence(t *testing.T) {
	t.Parallel()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	deaf := &stuck{Device: block.FromBytes(make([]byte, 1<<20)), stuck: make(chan struct{})}
	a, _ := somewhere(t, deaf, func(string) {})
	b, _ := somewhere(t, block.FromBytes(make([]byte, 1<<20)), func(string) {})
	t.Cleanup(func() { close(deaf.stuck) })
	began := time.Now()
	c := dialTest(t, &Dialer{Addresses: []string{mute.Addr().String(), a, b}, Silence: 200 * time.Millisecond}, "nbd://none.invalid/disk")
	if took := time.Since(began); took > 3*silentPlace {
		t.Errorf("it took %v to leave out one that says nothing", took)
	}
	if err := c.ReadAt(t.Context(), make([]byte, 512), 0, 0); err != nil {
		t.Error(err)
	}
}

// stuck is a device whose reads wait.
type stuck struct {
	block.Device
	stuck chan struct{}
}

func (s *stuck) Info() block.Info { i := s.Device.Info(); i.NoWait = false; return i }

func (s *stuck) ReadAt(context.Context, []byte, int64, block.Flags) error {
	<-s.stuck
	return block.ErrIO
}

func TestClientAddressesRefused(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		uri, address, says string
	}{
		{"nbd://h/d", "a:b:c", "the address \"a:b:c\": want HOST or HOST:PORT"},
		{"nbd://h/d", "::1", "in brackets"},
		{"nbd://h/d", "a:0", "the address \"a:0\""},
		{"nbd://h/d", ":10809", "the address \":10809\""},
		{"nbd+unix:///d?socket=/s", "a", "which is no URI for TCP"},
	} {
		_, err := (&Dialer{Addresses: []string{x.address}}).Dial(t.Context(), x.uri)
		if err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%+v: %v", x, err)
		}
	}
}
