package cluster

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/strata-storage/strata/internal/peer"
	"github.com/strata-storage/strata/nbd"
)

// A fio runs fio again and again on a volume, through NBD and a client that goes
// from node to node. Each time it verifies all that it has written.
type fio struct {
	t      testing.TB
	client *client
	socket string
	dir    string

	stop chan struct{}
	done sync.WaitGroup
	runs int
	err  error
}

// startFio begins.
func startFio(t testing.TB, c *client) *fio {
	t.Helper()
	peer.Need(t, "fio")
	f := &fio{t: t, client: c, socket: filepath.Join(shortDir(t), "s"), dir: t.TempDir(), stop: make(chan struct{})}
	listener, err := net.Listen("unix", f.socket)
	must(t, err)
	s := &nbd.Server{Exports: nbd.Exports{{Name: "", Device: c}}}
	go s.Serve(listener)
	t.Cleanup(func() { s.Close() })
	f.done.Go(f.work)
	t.Cleanup(func() { f.end() })
	return f
}

func (f *fio) work() {
	for f.err == nil {
		f.runs++
		f.err = f.once(f.runs)
		select {
		case <-f.stop:
			return
		default:
		}
	}
}

// once writes 4 MiB at random, with flushes, and verifies that a little later.
func (f *fio) once(seed int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, peer.Need(f.t, "fio"), "--ioengine=nbd", "--uri=nbd+unix:///?socket="+f.socket, "--thread",
		"--name=verify", "--output-format=terse", "--rw=randwrite", "--bsrange=4k-64k", "--blockalign=4k", "--size=32M", "--io_size=4M", "--iodepth=8",
		"--fsync=32", fmt.Sprint("--randseed=", seed), "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--verify_backlog=128")
	cmd.Dir = f.dir // for what it leaves behind
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fio, run %d: %w: %s", seed, err, out)
	}
	return nil
}

// end lets fio verify the last time, and ends it.
func (f *fio) end() {
	f.t.Helper()
	select {
	case <-f.stop:
		return
	default:
	}
	close(f.stop)
	f.done.Wait()
	if f.err != nil {
		f.t.Error(f.err)
	}
	f.t.Logf("fio has verified %d runs on %s", f.runs, f.client.volume)
}
