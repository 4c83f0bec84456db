package vm

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// kernelDisk is a disk with snapshots of dm-snapshot, each of which has a part
// of another device for itself.
type kernelDisk struct {
	g      *guest
	name   string // of the target on top, and the beginning of other names
	origin *linear
	dev    string
	chunk  int64
	parts  []*linear
	free   []int       // parts
	live   map[int]int // parts by number of snapshot
	taken  int
	first  string // device of snapshot 1
}

func kernelSnapshots(chunk int64, slots int) func(context.Context, *guest, []string) (disk, error) {
	return func(_ context.Context, g *guest, devices []string) (disk, error) {
		d := &kernelDisk{g: g, chunk: chunk, live: map[int]int{}}
		var err error
		if d.origin, err = g.filled(devices[0]); err != nil {
			return nil, err
		}
		size := g.device / int64(slots) &^ (1<<20 - 1)
		for i := range slots {
			part, err := g.linear(devices[1], int64(i)*size, size)
			if err != nil {
				return nil, errors.Join(err, d.close())
			}
			d.parts, d.free = append(d.parts, part), append(d.free, i)
		}
		g.made++
		name := fmt.Sprintf("kernel%d", g.made)
		if d.dev, err = g.mapper.create(name, d.sectors(), "snapshot-origin", "%s", d.origin.dev); err != nil {
			return nil, errors.Join(err, d.close())
		}
		d.name = name
		return d, nil
	}
}

func (d *kernelDisk) sectors() int64          { return d.g.size() / sector }
func (d *kernelDisk) path() string            { return d.dev }
func (d *kernelDisk) called(n int) string     { return fmt.Sprintf("%s-%d", d.name, n) }
func (d *kernelDisk) newest() int             { return d.taken }
func (d *kernelDisk) forget(int) error        { return nil }
func (d *kernelDisk) settle() error           { return nil }
func (d *kernelDisk) oldest() (string, error) { return d.first, nil }

func (d *kernelDisk) snapshot() error {
	if len(d.free) == 0 {
		return errors.New("no room for one more snapshot")
	}
	n, part := d.taken+1, d.free[0]
	// A store that begins with zeros is a new one.
	if err := on(d.parts[part].dev, func(c *client) error {
		_, err := c.f.WriteAt(c.into[0], 0)
		return err
	}); err != nil {
		return err
	}
	err := d.g.mapper.quiesced(d.name, func() error {
		dev, err := d.g.mapper.create(d.called(n), d.sectors(), "snapshot", "%s %s P %d", d.origin.dev, d.parts[part].dev, d.chunk/sector)
		if n == 1 {
			d.first = dev
		}
		return err
	})
	if err != nil {
		return err
	}
	d.taken, d.free, d.live[n] = n, d.free[1:], part
	return nil
}

func (d *kernelDisk) delete(n int) error {
	if err := d.g.mapper.remove(d.called(n)); err != nil {
		return err
	}
	d.free = append(d.free, d.live[n])
	delete(d.live, n)
	return nil
}

// rollback merges a snapshot into the disk, after which the snapshot is gone.
func (d *kernelDisk) rollback(n int) error {
	part := d.parts[d.live[n]]
	m := d.g.mapper
	if err := m.remove(d.called(n)); err != nil {
		return err
	}
	err := m.quiesced(d.name, func() error {
		return m.load(d.name, d.sectors(), "snapshot-merge", "%s %s P %d", d.origin.dev, part.dev, d.chunk/sector)
	})
	if err != nil {
		return err
	}
	if err := d.merged(); err != nil {
		return err
	}
	d.free = append(d.free, d.live[n])
	delete(d.live, n)
	return m.quiesced(d.name, func() error { return m.load(d.name, d.sectors(), "snapshot-origin", "%s", d.origin.dev) })
}

// merged waits until nothing but metadata is left of a merge.
func (d *kernelDisk) merged() error {
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		status, err := d.g.mapper.status(d.name)
		if err != nil {
			return err
		}
		used, meta, err := snapshotUse(status)
		if err != nil || used == meta {
			return err
		}
		if time.Since(start) > time.Minute {
			return fmt.Errorf("a merge does not end: %q", status)
		}
	}
}

// snapshotUse reads "allocated/total metadata", in sectors.
func snapshotUse(status []string) (used, meta int64, err error) {
	if len(status) == 2 {
		text, _, _ := strings.Cut(status[0], "/")
		used, err = strconv.ParseInt(text, 10, 64)
		if err == nil {
			meta, err = strconv.ParseInt(status[1], 10, 64)
		}
		if err == nil {
			return used, meta, nil
		}
	}
	return 0, 0, fmt.Errorf("dm-snapshot says %q, expected its use of space", status)
}

func (d *kernelDisk) stored() (total int64, err error) {
	for n := range d.live {
		status, err := d.g.mapper.status(d.called(n))
		if err != nil {
			return 0, err
		}
		used, _, err := snapshotUse(status)
		if err != nil {
			return 0, err
		}
		total += used * sector
	}
	return total, nil
}

func (d *kernelDisk) close() error {
	var errs []error
	for n := range d.live {
		errs = append(errs, d.g.mapper.remove(d.called(n)))
	}
	if d.name != "" {
		errs = append(errs, d.g.mapper.remove(d.name))
	}
	for _, p := range d.parts {
		errs = append(errs, p.close())
	}
	return errors.Join(append(errs, d.origin.close())...)
}
