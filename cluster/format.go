package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/home"
	"github.com/strata-storage/strata/internal/units"
	"github.com/strata-storage/strata/source"
)

// checkDisks returns the disks with paths that begin with /.
func (o *Options) checkDisks() ([]DiskOptions, error) {
	if o.GatewayOnly && len(o.Disks) > 0 {
		return nil, fmt.Errorf("a node that is only a gateway with %s, expected none", units.Plural(len(o.Disks), "disk"))
	}
	list := slices.Clone(o.Disks)
	seen := map[string]bool{}
	for i := range list {
		d := &list[i]
		if d.Path != "" {
			path, err := filepath.Abs(d.Path)
			if err != nil {
				return nil, fmt.Errorf("disk %.200q: %w", d.Path, err)
			}
			d.Path = path
		}
		key := d.Path
		if real, err := filepath.EvalSymlinks(d.Path); err == nil && d.Path != "" {
			key = real
		}
		if seen[key] {
			return nil, fmt.Errorf("disk %q is there twice", d.Path)
		}
		seen[key] = true
		if d.Weight < 0 {
			return nil, fmt.Errorf("disk %q with the weight %d, expected 0 or more", d.Path, d.Weight)
		}
	}
	for _, size := range append(sizesOf(list), o.DiskSize) {
		if size != 0 && size < minDisk {
			return nil, fmt.Errorf("a disk of %d bytes, expected %d at least", size, minDisk)
		}
	}
	return list, nil
}

func sizesOf(list []DiskOptions) (sizes []int64) {
	for _, d := range list {
		sizes = append(sizes, d.Size)
	}
	return sizes
}

// wanted are the disks that the node is to have at its first start.
func (n *Node) wanted() []DiskOptions {
	if len(n.o.Disks) > 0 || n.o.GatewayOnly {
		return n.o.Disks
	}
	return []DiskOptions{{Size: n.o.DiskSize}}
}

// begin begins to make a node, if its disks can be made.
func (n *Node) begin(ctx context.Context) error {
	var paths []string
	for _, d := range n.wanted() {
		if err := n.examine(ctx, d, n.home.Begun(d.Path)); err != nil {
			return err
		}
		if d.Path != "" {
			paths = append(paths, d.Path)
		}
	}
	return n.home.Begin(paths...)
}

// makeDisks makes the first disks of a node.
func (n *Node) makeDisks(ctx context.Context) error {
	for i, d := range n.wanted() {
		made, err := n.formatDisk(ctx, d, i)
		if err != nil {
			return err
		}
		n.is.Disks = append(n.is.Disks, made)
	}
	return nil
}

// addDisks makes the disks that a node is to have in addition to those it has.
func (n *Node) addDisks(ctx context.Context) error {
	if n.o.GatewayOnly && len(n.is.Disks) > 0 {
		return fmt.Errorf("the node has %s and is to be only a gateway: drain and forget that first", units.Plural(len(n.is.Disks), "disk"))
	}
	for _, d := range n.o.Disks {
		if slices.ContainsFunc(n.is.Disks, func(h home.Disk) bool { return h.Path == d.Path }) {
			continue
		}
		is, _ := n.home.Made()
		if err := n.examine(ctx, d, is.Adding != "" && is.Adding == d.Path); err != nil {
			return err
		}
		number := 0
		for _, h := range is.Disks {
			number = max(number, h.Number+1)
		}
		is.Adding = d.Path
		if err := n.home.Change(is); err != nil {
			return err
		}
		made, err := n.formatDisk(ctx, d, number)
		if err != nil {
			return err
		}
		is.Adding, is.Disks = "", append(slices.Clone(is.Disks), made)
		if err := n.home.Change(is); err != nil {
			return err
		}
		n.is.Disks = is.Disks
		n.o.Log.Info("the node has one disk more", "disk", made.ID, "path", d.Path)
	}
	return nil
}

// A where is where the parts of a disk are.
type where struct{ slab, meta string }

// where returns where the parts of a disk are, or will be.
func (n *Node) where(path string, number int) (where, error) {
	if path == "" {
		return where{n.home.Slab(number), n.home.Meta(number)}, nil
	}
	is, err := os.Stat(path)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return where{}, err
	case err == nil && is.IsDir():
		return where{filepath.Join(path, "slab"), filepath.Join(path, "meta")}, nil
	}
	return where{path, n.home.Meta(number)}, nil
}

// looked is how much at the beginning of a device is looked at for something that would be
// lost.
const looked = 1 << 20

// examine refuses to make a disk where something else is. Mine says that what is there may
// be what this node has begun to make.
func (n *Node) examine(ctx context.Context, o DiskOptions, mine bool) error {
	w, err := n.where(o.Path, 0)
	if err != nil || o.Path == "" {
		return err
	}
	fail := func(err error) error { return fmt.Errorf("the disk %s: %w", o.Path, err) }
	slab, err := source.File(ctx, source.FileOptions{Path: w.slab, ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fail(err)
	}
	defer slab.Close()
	if o.Overwrite || mine {
		return nil
	}
	id, is, err := disk.Identify(ctx, slab)
	switch {
	case is:
		return fail(fmt.Errorf("it is the disk %v of another node or another cluster, or was forgotten by this one; what it has is lost if it is to be overwritten: %w", id, home.ErrOther))
	case err != nil:
		return fail(err)
	}
	p := make([]byte, min(looked, slab.Info().Size))
	if err := slab.ReadAt(ctx, p, 0, 0); err != nil {
		return fail(err)
	}
	if at := bytes.IndexFunc(p, func(r rune) bool { return r != 0 }); at >= 0 {
		return fail(fmt.Errorf("there is something in it, at byte %d, which is lost if it is to be overwritten: %w", at, home.ErrForeign))
	}
	return nil
}

// formatDisk makes a disk, where examine has seen nothing of worth.
func (n *Node) formatDisk(ctx context.Context, o DiskOptions, number int) (d home.Disk, err error) {
	fail := func(err error) (home.Disk, error) {
		return home.Disk{}, fmt.Errorf("making disk %d, %s: %w", number, o.Path, err)
	}
	if err := n.home.MakeDisk(number); err != nil {
		return fail(err)
	}
	w, err := n.where(o.Path, number)
	if err == nil {
		err = os.RemoveAll(w.meta) // of an attempt that was cut short
	}
	if err != nil {
		return fail(err)
	}
	slab, err := openSlab(ctx, w.slab, o.Size)
	if err != nil {
		return fail(err)
	}
	id, err := disk.Format(ctx, disk.Config{Slab: slab, Dir: w.meta}, true)
	if err = errors.Join(err, slab.Close()); err != nil {
		return fail(err)
	}
	return home.Disk{ID: id.String(), Number: number, Path: o.Path}, nil
}

// openSlab opens the blocks of a new disk: a file, which it makes if there is none, or a
// block device.
func openSlab(ctx context.Context, path string, size int64) (block.Device, error) {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return source.File(ctx, source.FileOptions{Path: path})
	}
	if abs, err := filepath.Abs(path); err != nil || strings.HasPrefix(abs, "/dev/") && !strings.HasPrefix(abs, "/dev/shm/") {
		// A file there is memory, and a device of that name is what was meant.
		return nil, fmt.Errorf("there is no such device, and no file is made there: %w", fs.ErrNotExist)
	}
	size, err := diskSize(filepath.Dir(path), size)
	if err != nil {
		return nil, err
	}
	return source.File(ctx, source.FileOptions{Path: path, Create: true, Size: size})
}

// diskSize is the size of a new disk in a directory, nine tenths of what is free there if
// nobody says anything else.
func diskSize(dir string, size int64) (int64, error) {
	if size == 0 {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(filepath.Clean(dir), &fs); err != nil {
			return 0, fmt.Errorf("asking for the free space of %s: %w", dir, err)
		}
		size = int64(fs.Bavail) / 10 * 9 * fs.Bsize
	}
	size -= size % diskUnit
	if size < minDisk {
		return 0, fmt.Errorf("there is room for a disk of %d bytes in %s, expected %d at least", size, dir, minDisk)
	}
	return size, nil
}
