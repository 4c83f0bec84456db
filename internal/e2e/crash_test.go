package e2e

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/strata-storage/strata/nbd"
)

// durableStacks are the disks of 16 MiB that must survive the death of their
// server.
var durableStacks = map[string]string{
	"file":          `d=file("d.img", create=True, size="16M")`,
	"file with log": `d=log(stats(file("d.img", create=True, size="16M")), file="log")`,
	"cow over file": `d=cow(file("base.img", read_only=True), "d.cow")`,
}

// durableDir is the working directory of their servers.
func durableDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "base.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(16 << 20); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The server is killed again and again while four writers are at work. What a
// flush has covered is there afterwards.
func TestKilledServerLosesNothingFlushed(t *testing.T) {
	t.Parallel()
	for name, stack := range durableStacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const rounds = 8
			dir, socket := durableDir(t), filepath.Join(shortDir(t), "s")
			d := &nbd.Dialer{Conns: 2, Reconnect: nbd.Reconnect{Off: true}}
			r := newRecorder(16 << 20 / recordBlock)
			rnd := rand.New(rand.NewPCG(5, 6))
			for round := range rounds {
				s := serveAt(t, dir, socket, stack)
				c, err := d.Dial(t.Context(), s.uri("d"))
				if err != nil {
					t.Fatal(err)
				}
				if durable, err := r.verify(t.Context(), c); err != nil || durable == 0 && round > 0 {
					t.Fatalf("round %d, %d durable blocks: %v", round, durable, err)
				}
				r.work(t.Context(), c, uint64(round), 100+rnd.IntN(600), s.kill)
				c.Close()
			}
			s := serveAt(t, dir, socket, stack)
			c, err := d.Dial(t.Context(), s.uri("d"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := r.verify(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
}

// fio writes and flushes, the server is killed, and fio finds everything when
// it looks again.
func TestFioVerifiesAfterKill(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"file", "cow over file"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, socket := durableDir(t), filepath.Join(shortDir(t), "s")
			fio := func(s *server, more ...string) {
				t.Helper()
				run(t, "fio", append([]string{"--ioengine=nbd", "--uri=" + s.uri("d"), "--thread", "--name=v",
					"--output-format=terse", "--rw=randwrite", "--bs=4k", "--size=16M", "--iodepth=16", "--randseed=11",
					"--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0"}, more...)...)
			}
			s := serveAt(t, dir, socket, durableStacks[name])
			fio(s, "--do_verify=0", "--fsync=100")
			// fio leaves out its last flush when the one before it ends
			// after the last write.
			run(t, "qemu-io", "-f", "raw", s.uri("d"), "-c", "flush")
			s.kill()
			fio(serveAt(t, dir, socket, durableStacks[name]), "--verify_only")
		})
	}
}

// A copy goes on when the server is killed in the middle of it and comes
// back, in both directions.
func TestCopySurvivesRestart(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		stack string
		end   func(*server)
	}{
		{"file, killed", `d=file("d.img", create=True, size="32M")`, (*server).kill},
		{"cow, stopped", `d=cow("base.img", "d.cow")`, (*server).stop},
		// It forgets what was acknowledged and not flushed.
		{"cow, killed", `d=cow("base.img", "d.cow")`, (*server).kill},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			image := filepath.Join(dir, "image")
			p := make([]byte, 32<<20)
			r := rand.New(rand.NewPCG(8, 9))
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			if err := os.WriteFile(image, p, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "base.img"), make([]byte, len(p)), 0o600); err != nil {
				t.Fatal(err)
			}
			f := &flaky{t: t, socket: filepath.Join(shortDir(t), "f"), end: test.end}
			f.start = func() *server { return serveAt(t, dir, filepath.Join(filepath.Dir(f.socket), "s"), test.stack) }
			f.serve(8 << 20)
			uri := "nbd+unix:///d?socket=" + f.socket

			to := command(t, "strata", "copy", "--progress", "none", image, uri)
			if out, err := to.CombinedOutput(); err != nil || !strings.Contains(string(out), "connection lost") {
				t.Fatalf("%v: %s", err, out)
			}
			back := filepath.Join(dir, "back")
			f.left.Store(8 << 20)
			from := command(t, "strata", "copy", "--progress", "none", uri, back)
			if out, err := from.CombinedOutput(); err != nil || !strings.Contains(string(out), "connection lost") {
				t.Fatalf("%v: %s", err, out)
			}
			if !bytes.Equal(readFile(t, back), p) {
				t.Error("the copy is not correct")
			}
		})
	}
}

// flaky stands between clients and a server that it ends and starts again
// when so many bytes have passed.
type flaky struct {
	t      testing.TB
	socket string
	start  func() *server
	end    func(*server)

	work sync.WaitGroup
	left atomic.Int64

	mu     sync.Mutex // held while there is no server
	server *server
}

// serve passes connections on until the test ends.
func (f *flaky) serve(after int64) {
	f.server = f.start()
	f.left.Store(after)
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.work.Go(func() { f.pass(ctx, c) })
		}
	})
	f.t.Cleanup(func() {
		cancel()
		l.Close()
		f.work.Wait()
	})
}

func (f *flaky) pass(ctx context.Context, client net.Conn) {
	defer client.Close()
	f.mu.Lock()
	server, err := net.Dial("unix", f.server.socket)
	f.mu.Unlock()
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { client.Close() })()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{server, client}, {client, server}} {
		both.Go(func() {
			io.Copy(way[0], io.TeeReader(way[1], f))
			way[0].Close()
			way[1].Close()
		})
	}
	both.Wait()
}

// Write counts what passes, and restarts the server when it is enough.
func (f *flaky) Write(p []byte) (int, error) {
	n := int64(len(p))
	if left := f.left.Add(-n); left <= 0 && left+n > 0 {
		f.work.Go(func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.end(f.server)
			f.server = f.start()
		})
	}
	return len(p), nil
}
