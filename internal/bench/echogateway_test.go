package main

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/cert"
	"github.com/strata-storage/strata/source"
)

type echoed chan error

func (e echoed) Ended(err error, _ *block.Burst) { e <- err }

// newTestGateway returns a limit with peers in this process.
func newTestGateway(t *testing.T) *gateway {
	certs := filepath.Join(t.TempDir(), "certs")
	if _, err := cert.Make(certs, cert.Options{}); err != nil {
		t.Fatal(err)
	}
	var peers []*gatewayPeer
	for range gatewayPeers {
		p := place{transport: overTLS, port: (&lab{}).freePort()}
		network, address := p.address()
		failed := make(chan error, 1)
		go func() { failed <- serveEcho([]string{network, address, certs, "awake"}) }()
		awaitListener(t, p, failed)
		peer, err := dialEchoPeer(address, certs)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { peer.under.Close() })
		peers = append(peers, peer)
	}
	disk, err := source.Null(t.Context(), source.NullOptions{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return newGateway(disk, peers, func(error) {}) // the end of the test is one
}

// The limit of clusters answers each write when both peers have.
func TestEchoGateway(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ size, number int }{{4096, 200}, {longMessage, 20}, {300_000, 20}} {
		g := newTestGateway(t)
		var b block.Burst
		ends := make(echoed, tt.number)
		for i := range cap(ends) {
			if !g.StartWrite(context.Background(), make([]byte, tt.size), 0, 0, &b, ends) {
				t.Fatal("a write could not be begun")
			}
			if i%7 == 0 {
				b.End()
			}
		}
		b.End()
		for range cap(ends) {
			if err := <-ends; err != nil {
				t.Fatal(err)
			}
		}
		if g.StartWrite(context.Background(), make([]byte, tt.size+1), 0, 0, &b, ends) {
			t.Error("messages of another size are begun")
		}
	}
}
