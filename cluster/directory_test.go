package cluster

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/home"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/internal/peer"
)

// copyDir copies a data directory, without the sockets in it.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := tempDir(t)
	must(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || strings.HasSuffix(path, ".new") {
			return nil // the node runs
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case d.Name() == "slab":
			return os.Link(path, filepath.Join(to, rel)) // it is long, and not written
		case d.Type().IsRegular():
			text, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(to, rel), text, 0o600)
		}
		return nil
	}))
	return to
}

// Whatever is wrong with a data directory, the message says what it is, and nothing is
// changed.
func TestBadDirectories(t *testing.T) {
	t.Parallel()
	a, b := tempDir(t), tempDir(t)
	must(t, stop(start(t, small(a))))
	must(t, stop(start(t, small(b))))
	swap := func(dir, part string) {
		must(t, os.RemoveAll(filepath.Join(dir, part)))
		must(t, os.CopyFS(filepath.Join(dir, part), os.DirFS(filepath.Join(b, part))))
	}
	edit := func(dir, old, new string) {
		path := filepath.Join(dir, "node")
		text, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, []byte(strings.Replace(string(text), old, new, 1)), 0o600))
	}
	for name, x := range map[string]struct {
		spoil func(dir string)
		want  error
		says  string
	}{
		"keys of another node":     {func(dir string) { swap(dir, "keys") }, home.ErrOther, "by the certificate in it: data directory DIR: it is of the cluster "},
		"records of another one":   {func(dir string) { swap(dir, "etcd") }, home.ErrOther, "the records are those of the cluster "},
		"disk of another node":     {func(dir string) { swap(dir, "disks") }, home.ErrOther, "opening disk 0, "},
		"a newer version":          {func(dir string) { edit(dir, "strata node 1", "strata node 2") }, home.ErrNewer, "data directory DIR: file node: it has version 2, this program knows up to 1: "},
		"damaged":                  {func(dir string) { edit(dir, "cluster", "clutter") }, home.ErrDamaged, "data directory DIR: file node: the checksum is "},
		"without what it is":       {func(dir string) { must(t, os.Remove(filepath.Join(dir, "node"))) }, home.ErrHalf, "data directory DIR: there is keys, but no node that says which node it is of: "},
		"without its part in etcd": {func(dir string) { must(t, os.RemoveAll(filepath.Join(dir, "etcd"))) }, nil, "data directory DIR: it has no part in what the cluster agrees on, in etcd, and does not say who has"},
		"without keys":             {func(dir string) { must(t, os.RemoveAll(filepath.Join(dir, "keys"))) }, fs.ErrNotExist, "data directory DIR: reading the identity: "},
		"a file in its place": {func(dir string) {
			must(t, os.RemoveAll(dir))
			must(t, os.WriteFile(dir, nil, 0o600))
		}, nil, "data directory DIR: mkdir DIR: not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := copyDir(t, a)
			x.spoil(dir)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err := Start(ctx, small(dir))
			says := "starting a node: " + strings.ReplaceAll(x.says, "DIR", dir)
			if name == "records of another one" || name == "disk of another node" {
				says = x.says
			}
			if err == nil || x.want != nil && !errors.Is(err, x.want) || !strings.Contains(err.Error(), says) {
				t.Errorf("%v, expected %q", err, says)
			}
		})
	}
}

// A copy of the directory of a node that runs does not take its place.
func TestCopiedDirectory(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	original := nodes[1]
	o := original.o
	o.Dir = copyDir(t, o.Dir)
	// The blocks are locked by the one that runs, on this machine.
	must(t, os.Remove(filepath.Join(o.Dir, "lock")))
	must(t, os.RemoveAll(filepath.Join(o.Dir, "disks")))
	o.Agreed, o.Votes, o.Door = peer.FreeAddress(t), peer.FreeAddress(t), peer.FreeAddress(t)
	if _, err := Start(t.Context(), o); !errors.Is(err, ErrCopy) || !strings.Contains(err.Error(), "is a copy of that of another node") {
		t.Errorf("a copy starts: %v", err)
	}
	if err := original.run.current().Err(); err != nil {
		t.Errorf("the original suffers: %v", err)
	}
	// Nobody is at the address of the original, and it cannot know of the copy.
	must(t, original.listener.Close())
	copied := start(t, o)
	<-original.Over()
	if err := original.Err(); !errors.Is(err, ErrCopy) || !strings.Contains(err.Error(), copied.peersFind()) {
		t.Errorf("the original goes on: %v", err)
	}
	must(t, stop(original))
	if _, err := Start(t.Context(), original.o); !errors.Is(err, ErrCopy) {
		t.Errorf("the original starts again: %v", err)
	}
	if err := copied.Err(); err != nil || copied.run.current().Err() != nil {
		t.Errorf("the copy suffers: %v, %v", err, copied.run.current().Err())
	}
}

// A node that cannot reach the address of the process before waits until that cannot live
// any more, and is refused if it does.
func TestUnreachableOriginal(t *testing.T) {
	t.Parallel()
	nodes := several(t, 2)
	n := nodes[0]
	hole, err := net.Listen("tcp", "127.0.0.1:0") // says nothing
	must(t, err)
	defer hole.Close()
	run := func(lease coord.LeaseID) {
		key := record.RunKey(nodes[1].is.Node)
		value, err := record.Encode(key, record.Run{Incarnation: "another", Peers: hole.Addr().String()})
		must(t, err)
		_, err = n.store.Txn(t.Context(), coord.Txn{Then: []coord.Op{coord.PutLeased(lease, key, value)}})
		must(t, err)
	}
	must(t, stop(nodes[1]))
	lives, err := coord.NewLease(t.Context(), n.store, 2*time.Second)
	must(t, err)
	run(lives.ID())
	if _, err := Start(t.Context(), nodes[1].o); !errors.Is(err, ErrCopy) || !strings.Contains(err.Error(), "its lease does not end") {
		t.Errorf("it starts beside the other one: %v", err)
	}
	must(t, lives.Err())
	time.AfterFunc(time.Second, func() { _ = lives.Revoke(context.Background()) })
	start(t, nodes[1].o)
	if lives.Err() == nil {
		t.Error("it has not waited")
	}
}

// What a node has voted for must not be forgotten: an older copy of its directory is told
// from the newest one.
func TestOlderCopy(t *testing.T) {
	t.Parallel()
	o := small(tempDir(t))
	must(t, stop(start(t, o)))
	older, err := home.Open(copyDir(t, o.Dir))
	must(t, err)
	defer older.Close()
	n := start(t, o)
	copied := &Node{home: older}
	copied.is, _ = older.Made()
	if err := copied.newest(t.Context(), n.store); !errors.Is(err, ErrOlder) || !strings.Contains(err.Error(), "has counted 2 starts and signs of life, as the cluster knows, and this one 1") {
		t.Errorf("an older copy: %v", err)
	}
	must(t, n.newest(t.Context(), n.store))
}
