package nbd

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/peer"
)

// startPeer runs a foreign server that listens on the Unix socket that args
// name as SOCKET, and returns the URI of its default export.
func startPeer(t testing.TB, program string, args ...string) string {
	t.Helper()
	return "nbd+unix:///?socket=" + peer.Start(t, program, args...)
}

func dialTest(t testing.TB, d *Dialer, uri string) *Client {
	t.Helper()
	c, err := d.Dial(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// exercise writes, reads, zeroes and trims all over a device of 8 MiB or more
// and compares it with a copy in memory.
func exercise(t *testing.T, c *Client) {
	t.Helper()
	ctx := t.Context()
	const size = 8 << 20
	model := make([]byte, size)
	if err := c.Zero(ctx, 0, size, 0); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		off := r.Int64N(size-(1<<20)) &^ 511
		n := (r.Int64N(200<<10) + 512) &^ 511
		var err error
		switch r.IntN(4) {
		case 0:
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			copy(model[off:], p)
			err = c.WriteAt(ctx, p, off, block.Flags(r.IntN(2)))
		case 1:
			clear(model[off : off+n])
			err = c.Zero(ctx, off, n, block.Flags(r.IntN(4)))
		case 2:
			err = c.Flush(ctx)
		default:
			p := make([]byte, n)
			if err = c.ReadAt(ctx, p, off, 0); err == nil && !bytes.Equal(p, model[off:off+n]) {
				t.Fatalf("%d bytes at %d differ", n, off)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, size)
	if err := c.ReadAt(ctx, got, 0, 0); err != nil || !bytes.Equal(got, model) {
		t.Fatalf("the whole differs, %v", err)
	}
	end := int64(0)
	for e, err := range c.Extents(ctx, block.Allocation, 0, c.Info().Size) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Off != end || e.Len <= 0 {
			t.Fatalf("extent %+v after offset %d", e, end)
		}
		end = e.End()
		if e.Status&block.Zero != 0 && e.Off < size && !block.IsZero(model[e.Off:min(end, size)]) {
			t.Fatalf("extent %+v is not zero", e)
		}
	}
	if end != c.Info().Size {
		t.Fatalf("extents end at %d", end)
	}
}

func TestClientPeers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		program string
		args    []string
		replies Replies
		conns   int
	}{
		{"nbdkit memory", "nbdkit", []string{"-f", "-U", "SOCKET", "memory", "16M"}, StructuredReplies, 4},
		{"nbdkit simple", "nbdkit", []string{"-f", "-U", "SOCKET", "--no-sr", "memory", "16M"}, SimpleReplies, 4},
		{"nbdkit newstyle", "nbdkit", []string{"-f", "-U", "SOCKET", "--mask-handshake=0", "memory", "16M"}, SimpleReplies, 4},
		{"nbdkit file", "nbdkit", []string{"-f", "-U", "SOCKET", "file", "FILE"}, StructuredReplies, 4},
		{"nbdkit block sizes", "nbdkit", []string{"-f", "-U", "SOCKET", "--filter=blocksize-policy", "memory", "16M",
			"blocksize-minimum=512", "blocksize-maximum=65536", "blocksize-error-policy=error"}, StructuredReplies, 4},
		{"nbdkit without anything", "nbdkit", []string{"-f", "-U", "SOCKET", "--filter=nozero", "--filter=noextents",
			"--filter=fua", "memory", "16M", "fuamode=emulate"}, StructuredReplies, 4},
		{"qemu-nbd", "qemu-nbd", []string{"-f", "raw", "-t", "-e", "8", "-k", "SOCKET", "FILE"}, StructuredReplies, 4},
		{"qemu-nbd read", "qemu-nbd", []string{"-f", "raw", "-t", "-k", "SOCKET", "FILE"}, StructuredReplies, 4},
		{"nbd-server", "nbd-server", nil, SimpleReplies, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "f")
			if err := os.WriteFile(file, make([]byte, 16<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			var uri string
			if test.program == "nbd-server" {
				uri = "nbd+unix:///vm?socket=" + peer.StartNBDServer(t, file)
			} else {
				for i, a := range test.args {
					test.args[i] = strings.Replace(a, "FILE", file, 1)
				}
				uri = startPeer(t, test.program, test.args...)
			}
			c := dialTest(t, &Dialer{Conns: 4}, uri)
			if got := c.Export().Replies; got != test.replies {
				t.Errorf("replies are %v", got)
			}
			if test.name == "qemu-nbd read" {
				test.conns = 1 // it is not shared
			}
			if c.Conns() != test.conns {
				t.Errorf("%d connections, expected %d", c.Conns(), test.conns)
			}
			exercise(t, c)
		})
	}
}

// An oldstyle nbdkit 1.32 advertises what it then refuses to do, so that only
// reads and writes can be tried.
func TestClientOldstyle(t *testing.T) {
	t.Parallel()
	uri := startPeer(t, "nbdkit", "-f", "-o", "-U", "SOCKET", "memory", "16M")
	c := dialTest(t, &Dialer{}, uri)
	if e := c.Export(); e.Protocol != "oldstyle" || e.Size != 16<<20 {
		t.Errorf("export is %+v", e)
	}
	p, q := bytes.Repeat([]byte("old"), 100_000), make([]byte, 300_000)
	if err := c.WriteAt(t.Context(), p, 12345, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.ReadAt(t.Context(), q, 12345, 0); err != nil || !bytes.Equal(p, q) {
		t.Fatalf("read differs, %v", err)
	}
	if _, err := Dial(t.Context(), strings.Replace(uri, "///", "///name", 1)); err == nil || !strings.Contains(err.Error(), "oldstyle") {
		t.Errorf("a name gave %v", err)
	}
}
