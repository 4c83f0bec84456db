package nbd_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/nbd"
)

// serveExample serves a disk of 1 MiB called "vm" until the function that it
// returns is called.
func serveExample() (uri string, stop func()) {
	dir, err := os.MkdirTemp("", "nbd")
	if err != nil {
		log.Fatal(err)
	}
	socket := filepath.Join(dir, "sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	s := &nbd.Server{Exports: nbd.Exports{{Name: "vm", Description: "an example", Device: block.FromBytes(make([]byte, 1<<20))}}}
	go s.Serve(l)
	return "nbd+unix:///vm?socket=" + socket, func() {
		s.Close()
		os.RemoveAll(dir)
	}
}

// Any NBD server is a block.Device.
func ExampleDial() {
	uri, stop := serveExample()
	defer stop()
	ctx := context.Background()

	disk, err := nbd.Dial(ctx, uri)
	if err != nil {
		log.Fatal(err)
	}
	defer disk.Close()
	if err := disk.WriteAt(ctx, []byte("hello"), 4096, block.FUA); err != nil {
		log.Fatal(err)
	}
	p := make([]byte, 5)
	if err := disk.ReadAt(ctx, p, 4096, 0); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s from a disk of %d bytes\n", p, disk.Info().Size)
	// Output: hello from a disk of 1048576 bytes
}

// A Dialer has the choices: here four connections, and metadata contexts
// beyond the allocation of storage.
func ExampleDialer() {
	uri, stop := serveExample()
	defer stop()

	d := nbd.Dialer{Conns: 4, Contexts: []string{"qemu:dirty-bitmap:backup"}}
	disk, err := d.Dial(context.Background(), uri)
	if err != nil {
		log.Fatal(err)
	}
	defer disk.Close()
	e := disk.Export()
	fmt.Println(disk.Conns(), e.Name, e.Protocol, e.Replies, e.Contexts)
	// Output: 4 vm fixed newstyle extended [base:allocation]
}

func ExampleList() {
	uri, stop := serveExample()
	defer stop()

	exports, err := nbd.List(context.Background(), uri)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range exports {
		fmt.Println(e.Name, e.Description, e.Size)
	}
	// Output: vm an example 1048576
}
