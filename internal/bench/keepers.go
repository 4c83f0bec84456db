package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-storage/strata/internal/daemon"
)

// A keeper is a way to have snapshots of a disk.
type keeper struct {
	name    string
	program string // what must be installed
	most    int    // snapshots, 0 for any number
	open    func(ctx context.Context, l *lab, dir string) (stack, error)
}

// rawName is R: our server with a raw file, what all others are compared with.
const rawName = "raw file"

var (
	rawFile  = ourKeeper(rawName, 0, "")
	sparse   = keeper{"sparse file", "", 0, openSparse}
	staged   = ourKeeper("staged", 0, `, policy="staged"`)
	redirect = ourKeeper("redirect", 0, `, policy="redirect"`)
	copyOut  = ourKeeper("copyout", 0, `, policy="copyout"`)
	bitmap   = ourKeeper("bitmap", 64, `, kind="bitmap", policy="copyout"`)

	overlays    = overlayKeeper("qcow2 64 KiB", "cluster_size=64k")
	subclusters = overlayKeeper("qcow2 extended", "extended_l2=on,cluster_size=128k")
	internals   = keeper{"qcow2 internal", "qemu-nbd", 50, openInternal}
)

// longestChain is how many overlays are stacked at most.
const longestChain = 50

func ourKeeper(name string, most int, args string) keeper {
	return keeper{name, "", most, func(ctx context.Context, l *lab, dir string) (stack, error) {
		return openOurs(ctx, l, dir, args)
	}}
}

func overlayKeeper(name, format string) keeper {
	return keeper{name, "qemu-nbd", longestChain, func(_ context.Context, l *lab, dir string) (stack, error) {
		return &qcowStack{l: l, dir: dir, format: format, top: l.image}, nil
	}}
}

// installed leaves out those whose program is missing.
func installed(all []keeper) (there []keeper) {
	for _, k := range all {
		if k.program != "" {
			if _, err := exec.LookPath(k.program); err != nil {
				continue
			}
		}
		there = append(there, k)
	}
	return there
}

// A stack is a disk with the snapshots that a keeper has of it, being served.
type stack interface {
	// snapshot takes one. Clients have to connect anew; some stacks are not
	// served before the first.
	snapshot(ctx context.Context) error
	// settle waits until nothing is done in the background.
	settle(ctx context.Context) error
	// stored is how many bytes files take that are there for the snapshots.
	stored() (int64, error)
	server() *running
	// oldest is the URI of the first snapshot, or "" where the server has
	// none.
	oldest() string
	// close ends the server and removes its files.
	close()
}

// openInDir makes a folder, and a stack in it.
func (k keeper) openInDir(ctx context.Context, l *lab, dir string) (stack, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s, err := k.open(ctx, l, dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.name, err)
	}
	return s, nil
}

// An ourStack is one of our own server.
type ourStack struct {
	l             *lab
	r             *running
	client        *daemon.Client
	store, origin string
	plain         bool // no snapshots
	taken         int
	control       string
}

const exportName = "disk"

// openOurs serves a disk in dir, which is filled if it is not there, with a new
// store; or as a raw file, without args.
func openOurs(ctx context.Context, l *lab, dir, args string) (stack, error) {
	s := &ourStack{l: l, plain: args == "", origin: filepath.Join(dir, "origin.img"), store: filepath.Join(dir, "store")}
	if _, err := os.Stat(s.origin); err != nil {
		if err := copyFile(s.origin, l.image); err != nil {
			return nil, err
		}
	}
	if s.plain {
		s.store = ""
		return s.serve(ctx, fmt.Sprintf("file(%q)", s.origin))
	}
	return s.serve(ctx, fmt.Sprintf("snapshots(%q, %q%s)", s.origin, s.store, args))
}

// openSparse serves a raw file whose blocks are all still to be found. Whatever
// writes to a new place has to have them found.
func openSparse(ctx context.Context, l *lab, dir string) (stack, error) {
	s := &ourStack{l: l, plain: true, store: filepath.Join(dir, "sparse.img")}
	f, err := os.Create(s.store)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(int64(l.o.size)<<20), f.Close()); err != nil {
		return nil, err
	}
	return s.serve(ctx, fmt.Sprintf("file(%q)", s.store))
}

func (s *ourStack) serve(ctx context.Context, device string) (stack, error) {
	l := s.l
	l.count++
	s.control = filepath.Join(l.run, fmt.Sprintf("c%d", l.count))
	r, err := l.start(ctx, server{name: ours, export: exportName, command: func(l *lab, p place) []string {
		return []string{l.o.strata, "serve", "--control", s.control, "--listen", "unix://" + p.socket, exportName + "=" + device}
	}}, overUnix)
	if err != nil {
		return nil, err
	}
	s.r, s.client = r, daemon.NewClient(s.control)
	return s, nil
}

// snapshotName is the name of the i-th snapshot.
func snapshotName(i int) string { return fmt.Sprintf("s%d", i) }

func (s *ourStack) snapshot(ctx context.Context) error {
	if s.plain {
		return nil
	}
	s.taken++
	return s.client.ChangeSnapshots(ctx, "create", daemon.SnapshotRequest{Export: exportName, Names: []string{snapshotName(s.taken)}})
}

// Background work is looked for once a second: quiet for longer is quiet.
const (
	quietFor  = 1300 * time.Millisecond
	settleMax = 5 * time.Minute
)

func (s *ourStack) settle(ctx context.Context) error {
	if s.plain {
		return nil
	}
	return s.waitIdle(ctx, quietFor)
}

// waitIdle waits until there has been no background work for so long.
func (s *ourStack) waitIdle(ctx context.Context, quiet time.Duration) error {
	start := time.Now()
	for since := start; time.Since(start) < settleMax; {
		list, err := s.client.Snapshots(ctx, exportName)
		if err != nil {
			return err
		}
		if list.Status.Task != "idle" && list.Status.Task != "" || list.Status.RollingBack != "" {
			since = time.Now()
		} else if time.Since(since) >= quiet {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(max(quiet/20, 2*time.Millisecond)):
		}
	}
	return errors.New("background work does not end")
}

func (s *ourStack) stored() (int64, error) {
	if s.store == "" {
		return 0, nil
	}
	return allocated(s.store)
}

func (s *ourStack) server() *running { return s.r }

func (s *ourStack) oldest() string {
	if s.taken == 0 {
		return ""
	}
	return s.r.place.uri(s.l, exportName+"@"+snapshotName(1))
}

func (s *ourStack) close() {
	s.r.stop()
	if os.Remove(s.store) == nil && !s.plain {
		// The next store of the disk is another one.
		exec.Command(s.l.o.strata, "snapshot", "forget", s.origin).Run()
	}
}

// allocated is how many bytes the file system has given to a file.
func allocated(path string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return st.Blocks * 512, nil
}
