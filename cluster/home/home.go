package home

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Names in the directory.
const (
	lockName   = "lock"
	nodeName   = "node"
	newName    = nodeName + newSuffix
	makingName = "making"
	keysName   = "keys"
	etcdName   = "etcd"
	disksName  = "disks"
)

// A Home is a data directory that this process uses. Made, Change and Edit may be called from
// any goroutine.
type Home struct {
	dir   string
	lock  *os.File
	begun []string // paths of an attempt that was not finished

	mu     sync.Mutex
	made   bool
	record Record
}

// Open opens a data directory, which it makes if there is none, and keeps others
// from using it until Close. What an earlier attempt to make a node has left behind
// is removed.
func Open(dir string) (_ *Home, err error) {
	fail := func(err error) (*Home, error) { return nil, fmt.Errorf("data directory %s: %w", dir, err) }
	if dir, err = filepath.Abs(dir); err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	// A lock file in a directory that is somebody else's would be litter.
	if err := known(dir); err != nil {
		return fail(err)
	}
	h := &Home{dir: dir}
	if h.lock, err = lock(filepath.Join(dir, lockName)); err != nil {
		return fail(err)
	}
	if err := h.load(); err != nil {
		h.lock.Close()
		return fail(err)
	}
	return h, nil
}

// known refuses directories in which there is something, and nothing of a node.
func known(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case lockName, nodeName, makingName, keysName, etcdName, disksName:
			return nil
		}
	}
	return fmt.Errorf("%s is in it, expected nothing, or a node: %w", entries[0].Name(), ErrForeign)
}

// lock locks a file for as long as it is open.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return f, nil
}

// load finds out what the directory is.
func (h *Home) load() error {
	text, err := readFile(h.path(nodeName))
	if err == nil {
		h.made = true
		h.record, err = parse(text)
		if err != nil {
			return fmt.Errorf("file %s: %w", nodeName, err)
		}
		// A crash may have left this after the last step.
		return remove(h.path(makingName))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if text, err := readFile(h.path(makingName)); err == nil {
		h.begun = strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
		return h.clear()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, part := range []string{keysName, etcdName, disksName} {
		if _, err := os.Lstat(h.path(part)); err == nil {
			return fmt.Errorf("there is %s, but no %s that says which node it is of: %w", part, nodeName, ErrHalf)
		}
	}
	return nil
}

// clear removes the parts of a node that was not finished.
func (h *Home) clear() error {
	for _, part := range []string{disksName, etcdName, keysName, newName} {
		if err := os.RemoveAll(h.path(part)); err != nil {
			return err
		}
	}
	return syncDir(h.dir)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err == nil && len(b) > maxRecord {
		err = fmt.Errorf("%s has more than %d bytes: %w", path, maxRecord, ErrDamaged)
	}
	return b, err
}

func (h *Home) path(name string) string { return filepath.Join(h.dir, name) }

// Dir is the directory.
func (h *Home) Dir() string { return h.dir }

// Keys is the directory of the identity.
func (h *Home) Keys() string { return h.path(keysName) }

// Etcd is the directory of the member of the cluster that agrees.
func (h *Home) Etcd() string { return h.path(etcdName) }

// Slab and Meta are where a disk is.
func (h *Home) Slab(number int) string { return filepath.Join(h.disk(number), "slab") }

// Meta is the directory of the metadata of a disk.
func (h *Home) Meta(number int) string { return filepath.Join(h.disk(number), "meta") }

func (h *Home) disk(number int) string {
	return filepath.Join(h.dir, disksName, strconv.Itoa(number))
}

// Made returns what the directory is, and false if that is still to be made.
func (h *Home) Made() (Record, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.record, h.made
}

// Begun tells whether an attempt to make the node, which was not finished, has begun to
// make a disk at a path.
func (h *Home) Begun(path string) bool { return slices.Contains(h.begun, path) }

// Begin is called before the first part is made, with the paths of disks that will be
// made elsewhere.
func (h *Home) Begin(paths ...string) error {
	if h.made {
		return fmt.Errorf("data directory %s: it is node %s of cluster %s already", h.dir, h.record.Node, h.record.Cluster)
	}
	if err := writeFile(h.path(makingName), []byte(strings.Join(paths, "\n"))); err != nil {
		return err
	}
	return syncDir(h.dir)
}

// MakeDisk makes the directories of a disk, empty.
func (h *Home) MakeDisk(number int) error {
	if err := os.MkdirAll(h.disk(number), 0o700); err != nil {
		return err
	}
	return errors.Join(syncDir(h.path(disksName)), syncDir(h.dir))
}

// Finish says what the directory is, when all parts are made and durable.
func (h *Home) Finish(r Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.write(r); err != nil {
		return fmt.Errorf("data directory %s: %w", h.dir, err)
	}
	h.record, h.made = r, true
	return remove(h.path(makingName))
}

// Change says anew what the directory is, of the same node.
func (h *Home) Change(r Record) error { return h.Edit(func(now *Record) { *now = r }) }

// Edit is Change to what f makes of it. Nobody else changes it meanwhile.
func (h *Home) Edit(f func(*Record)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.record
	f(&r)
	err := h.expect(r.Cluster, r.Node)
	if err == nil {
		err = h.write(r)
	}
	if err != nil {
		return fmt.Errorf("data directory %s: %w", h.dir, err)
	}
	h.record = r
	return nil
}

func (h *Home) write(r Record) error {
	text, err := r.encode()
	if err != nil {
		return err
	}
	return Replace(h.path(nodeName), text)
}

// newSuffix ends the name of a file that is about to replace another one.
const newSuffix = ".new"

// Replace replaces a file, or makes it, durably: after a loss of power it is what it was, or
// has all of text.
func Replace(path string, text []byte) error {
	if is, err := os.ReadFile(path); err == nil && bytes.Equal(is, text) {
		return nil
	}
	if err := writeFile(path+newSuffix, text); err != nil {
		return err
	}
	if err := os.Rename(path+newSuffix, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// Expect refuses a directory that is not of that cluster and node, of which either
// may be empty for any.
func (h *Home) Expect(cluster, node string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.expect(cluster, node)
}

func (h *Home) expect(cluster, node string) error {
	switch {
	case cluster != "" && cluster != h.record.Cluster:
		return fmt.Errorf("data directory %s: it is of the cluster %s, expected %s: %w", h.dir, h.record.Cluster, cluster, ErrOther)
	case node != "" && node != h.record.Node:
		return fmt.Errorf("data directory %s: it is of the node %s, expected %s: %w", h.dir, h.record.Node, node, ErrOther)
	}
	return nil
}

// Close lets others use the directory.
func (h *Home) Close() error { return h.lock.Close() }

// writeFile writes a file, durably but for its name.
func writeFile(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
