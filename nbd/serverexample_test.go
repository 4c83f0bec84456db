package nbd_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/layer"
	"github.com/strata-storage/strata/nbd"
	"github.com/strata-storage/strata/source"
)

// Serving a disk in memory, as net/http serves pages: a server, a listener,
// and an orderly end.
func ExampleServer() {
	ctx := context.Background()
	disk, err := source.Mem(ctx, source.MemOptions{Size: 1 << 30})
	if err != nil {
		log.Fatal(err)
	}
	defer disk.Close()

	server := &nbd.Server{Exports: nbd.Exports{{Name: "scratch", Device: disk}}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- server.Serve(listener) }()

	exports, err := nbd.List(ctx, fmt.Sprintf("nbd://%s", listener.Addr()))
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range exports {
		fmt.Println(e.Name, e.Size)
	}

	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	fmt.Println(server.Shutdown(ctx))
	fmt.Println(<-ended)
	// Output:
	// scratch 1073741824
	// <nil>
	// nbd: server closed
}

// Serving a stack: three files end to end, copy-on-write over the middle one.
// A layer owns what it is made of, so that closing the stack closes it all.
func ExampleServer_stack() {
	dir, err := os.MkdirTemp("", "stack")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	stack, err := openStack(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer stack.Close()

	socket := filepath.Join(dir, "sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	server := &nbd.Server{Exports: nbd.Exports{{Name: "vm", Device: stack}}}
	defer server.Close()
	go server.Serve(listener)

	ctx := context.Background()
	client, err := nbd.Dial(ctx, "nbd+unix:///vm?socket="+socket)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	// One write across the border of the first two files.
	if err := client.WriteAt(ctx, []byte("one two"), 1<<20-4, block.FUA); err != nil {
		log.Fatal(err)
	}
	p := make([]byte, 7)
	if err := client.ReadAt(ctx, p, 1<<20-4, 0); err != nil {
		log.Fatal(err)
	}
	a, _ := os.ReadFile(filepath.Join(dir, "a.img"))
	b, _ := os.ReadFile(filepath.Join(dir, "b.img"))
	fmt.Printf("%q: %q in a.img, %q in b.img\n", p, a[1<<20-4:], b[:3])
	// Output: "one two": "one " in a.img, "\x00\x00\x00" in b.img
}

// openStack makes concat("a.img", cow("b.img", "b.cow"), "c.img").
func openStack(dir string) (block.Device, error) {
	ctx := context.Background()
	var files []block.Device
	for _, name := range []string{"a.img", "b.img", "c.img"} {
		f, err := source.File(ctx, source.FileOptions{Path: filepath.Join(dir, name), Create: true, Size: 1 << 20})
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	middle, err := layer.Cow(files[1], layer.CowOptions{Diff: filepath.Join(dir, "b.cow")})
	if err != nil {
		return nil, err
	}
	return layer.Concat([]block.Device{files[0], middle, files[2]}, layer.ConcatOptions{})
}

// guard refuses writes to the first sector.
type guard struct{ block.Pass }

func (g guard) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if off < 512 && len(p) > 0 {
		return fmt.Errorf("%s may not write the boot sector: %w", block.CallerOf(ctx).Export, block.ErrPermission)
	}
	return g.Device.WriteAt(ctx, p, off, flags)
}

// Wrap puts a layer around every export of a server.
func ExampleServer_wrap() {
	server := &nbd.Server{
		Exports: nbd.Exports{{Name: "a", Device: block.FromBytes(make([]byte, 4096))}},
		Wrap:    func(dev block.Device) block.Device { return guard{block.Pass{Device: dev}} },
	}
	defer server.Close()

	// A server needs no listener: it serves any connection.
	ctx := context.Background()
	ours, theirs := net.Pipe()
	go server.ServeConn(ctx, theirs)
	dialer := nbd.Dialer{
		Reconnect: nbd.Reconnect{Off: true},
		Connect:   func(context.Context) (net.Conn, error) { return ours, nil },
	}
	client, err := dialer.Dial(ctx, "nbd://pipe/a")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	fmt.Println(client.WriteAt(ctx, []byte("x"), 0, 0))
	fmt.Println(client.WriteAt(ctx, []byte("x"), 512, 0))
	// Output:
	// nbd: WRITE of 1 bytes at offset 0: operation not permitted
	// <nil>
}

// sizes is a resolver: its exports are made when somebody asks for them.
type sizes struct{}

func (sizes) Resolve(ctx context.Context, req *nbd.ExportRequest) (*nbd.Export, error) {
	mib, ok := strings.CutSuffix(req.Name, "MiB")
	var n int64
	if _, err := fmt.Sscan(mib, &n); err != nil || !ok || n < 1 || n > 1<<20 {
		return nil, nbd.ErrNotFound
	}
	dev, err := source.Mem(ctx, source.MemOptions{Size: n << 20})
	if err != nil {
		return nil, err
	}
	// Each connection has a disk of its own, which ends with it.
	return &nbd.Export{Name: req.Name, Device: dev, Exclusive: true, Release: func() { dev.Close() }}, nil
}

func (sizes) List(ctx context.Context, peer *nbd.Peer) ([]*nbd.Export, error) { return nil, nil }

// Exports can be made on demand.
func ExampleResolver() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &nbd.Server{Exports: sizes{}}
	defer server.Close()
	go server.Serve(listener)

	ctx := context.Background()
	client, err := nbd.Dial(ctx, fmt.Sprintf("nbd://%s/64MiB", listener.Addr()))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	fmt.Println(client.Info().Size, "bytes, several connections:", client.Export().Has("CAN_MULTI_CONN"))
	// Output: 67108864 bytes, several connections: false
}
