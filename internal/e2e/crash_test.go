package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/nbd"
	"github.com/strata-storage/strata/source"
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

// keepsAll reports whether everything that was written to files in dir outlives
// the process and cow knows that.
func keepsAll(t testing.TB, dir string) bool {
	t.Helper()
	d, err := source.File(t.Context(), source.FileOptions{Path: filepath.Join(dir, "base.img"), ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	return d.(interface{ Era() string }).Era() != ""
}

// The server is killed again and again while four writers are at work. What it
// answered is there afterwards, flushed or not.
func TestKilledServerLosesNothing(t *testing.T) {
	t.Parallel()
	for name, stack := range durableStacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const rounds = 8
			dir, socket := durableDir(t), filepath.Join(shortDir(t), "s")
			all := name != "cow over file" || keepsAll(t, dir)
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
				if all {
					r.killed()
				}
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

// fio loads the server, which is killed in the middle of that at the moment
// when a flush covers what another job of fio has written. fio finds all of
// this when it looks again, round after round.
func TestFioVerifiesAfterKill(t *testing.T) {
	t.Parallel()
	peer.Need(t, "fio", "qemu-io")
	for _, name := range []string{"file", "cow over file"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const rounds = 4
			dir, socket := durableDir(t), filepath.Join(shortDir(t), "s")
			for round := range rounds {
				s := serveAt(t, dir, socket, durableStacks[name])
				if found, err := fioVerify(t, s, round, 1); err == nil {
					t.Fatalf("fio finds %d blocks that nobody has written", found)
				}
				loadAndKill(t, s, round)
				s = serveAt(t, dir, socket, durableStacks[name])
				if found, err := fioVerify(t, s, 0, round+1); err != nil || found != fioBlocks*(round+1) {
					t.Fatalf("round %d: fio finds %d blocks of %d: %v", round, found, fioBlocks*(round+1), err)
				}
				s.stop()
			}
		})
	}
}

// Of the 16 MiB of a disk every round writes 2 MiB of its own, in the order
// that its seed says. The last 8 MiB are for the load.
const fioBlocks = 2 << 20 / 4096

func fioRegion(round int) []string {
	return []string{fmt.Sprintf("--name=round%d", round), fmt.Sprintf("--offset=%dM", 2*round), "--size=2M", fmt.Sprintf("--randseed=%d", 11+round),
		"--rw=randwrite", "--bs=4k", "--iodepth=16", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0"}
}

// A fioJob is what fio says about a job.
type fioJob struct {
	Name  string `json:"jobname"`
	Error int
	Read  struct {
		Requests int `json:"total_ios"`
		Bytes    int `json:"io_bytes"`
	}
	Write struct {
		Requests int `json:"total_ios"`
	}
}

// fio runs jobs on a disk and returns what it says about them.
func fio(t testing.TB, s *server, jobs ...string) (all []fioJob, err error) {
	t.Helper()
	cmd := command(t, "fio", append([]string{"--ioengine=nbd", "--uri=" + s.uri("d"), "--thread", "--output-format=json"}, jobs...)...)
	cmd.Dir = t.TempDir() // for what it leaves behind
	out, err := cmd.Output()
	// There may be a message before it.
	_, text, _ := strings.Cut(string(out), "{")
	var result struct{ Jobs []fioJob }
	if e := json.NewDecoder(strings.NewReader("{" + text)).Decode(&result); e != nil {
		t.Fatalf("fio: %v, %v: %s", err, e, out)
	}
	return result.Jobs, err
}

// fioVerify looks for what n rounds from the first on have written, and
// returns how many blocks it has found right.
func fioVerify(t testing.TB, s *server, first, n int) (found int, err error) {
	t.Helper()
	var args []string
	for round := first; round < first+n; round++ {
		args = append(append(args, fioRegion(round)...), "--verify_only")
	}
	jobs, err := fio(t, s, args...)
	for _, j := range jobs {
		found += j.Read.Bytes / 4096
	}
	return found, err
}

// loadAndKill writes the region of a round with fio, flushes through another
// connection and kills the server, while another job of fio goes on writing
// and flushing until the server is gone.
func loadAndKill(t testing.TB, s *server, round int) {
	t.Helper()
	flushAndKill := fmt.Sprintf("%s -f raw '%s' -c flush && kill -9 %d", peer.Need(t, "qemu-io"), s.uri("d"), s.cmd.Process.Pid)
	args := []string{"--name=load", "--offset=8M", "--size=8M", "--rw=randwrite", "--bsrange=512-64k", "--blockalign=512", "--iodepth=16",
		"--fsync=20", "--time_based", "--runtime=600", fmt.Sprintf("--randseed=%d", round)}
	args = append(append(args, fioRegion(round)...), "--do_verify=0", "--fsync=100", "--exec_postrun="+flushAndKill)
	jobs, err := fio(t, s, args...)
	<-s.ended
	if err == nil || !s.killed() || len(jobs) != 2 {
		t.Fatalf("the server has not been killed under load: %v, %v, %+v", err, s.err, jobs)
	}
	load, own := jobs[0], jobs[1]
	if load.Error == 0 || load.Write.Requests == 0 || own.Error != 0 || own.Write.Requests != fioBlocks {
		t.Fatalf("the load was not interrupted, or the other job was: %+v", jobs)
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
		// forgets: what was written is gone with the server.
		forgets bool
	}{
		{"file, killed", `d=file("d.img", create=True, size="32M")`, (*server).kill, false},
		{"cow, stopped", `d=cow("base.img", "d.cow")`, (*server).stop, false},
		{"cow, killed", `d=cow("base.img", "d.cow")`, (*server).kill, false},
		{"mem, killed", `d=mem("32M")`, (*server).kill, true},
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
			if !test.forgets {
				f.left.Store(8 << 20)
			}
			from := command(t, "strata", "copy", "--progress", "none", uri, back)
			if out, err := from.CombinedOutput(); err != nil || strings.Contains(string(out), "connection lost") == test.forgets {
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
