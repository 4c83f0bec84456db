package vm

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	thinBlock = 64 << 10
	// thinMetadata is the size of the part of the first device that has the
	// metadata of the pool.
	thinMetadata = 32 << 20
)

// thinDisk is a disk of dm-thin with its snapshots, in a pool of its own. The
// device with number n is snapshot n, 0 the disk at first.
type thinDisk struct {
	g          *guest
	meta, data *linear
	pool, name string
	poolDev    string
	dev        string
	current    int // the number of the device that is the disk
	next       int
	opened     []string
}

func openThin(_ context.Context, g *guest, devices []string) (disk, error) {
	g.made++
	d := &thinDisk{g: g, next: 1}
	pool, name := fmt.Sprintf("pool%d", g.made), fmt.Sprintf("thin%d", g.made)
	var err error
	if d.meta, err = g.linear(devices[0], 0, thinMetadata); err != nil {
		return nil, err
	}
	if d.data, err = g.linear(devices[1], 0, g.device); err != nil {
		return nil, errors.Join(err, d.meta.close())
	}
	if err := d.start(pool, name); err != nil {
		return nil, errors.Join(err, d.close())
	}
	// What is not allocated would be zeros without reading.
	return d, on(d.dev, func(c *client) error { return c.fill(g.size()) })
}

// start makes the pool and the disk.
func (d *thinDisk) start(pool, name string) (err error) {
	if err := on(d.meta.dev, func(c *client) error {
		_, err := c.f.WriteAt(c.into[0], 0)
		return err
	}); err != nil {
		return err
	}
	m := d.g.mapper
	if d.poolDev, err = m.create(pool, d.g.device/sector, "thin-pool", "%s %s %d 0 1 skip_block_zeroing", d.meta.dev, d.data.dev, thinBlock/sector); err != nil {
		return err
	}
	d.pool = pool
	if err := m.message(pool, "create_thin 0"); err != nil {
		return err
	}
	if d.dev, err = m.create(name, d.sectors(), "thin", "%s 0", d.poolDev); err != nil {
		return err
	}
	d.name = name
	return nil
}

func (d *thinDisk) sectors() int64 { return d.g.size() / sector }
func (d *thinDisk) path() string   { return d.dev }
func (d *thinDisk) settle() error  { return nil }
func (d *thinDisk) newest() int    { return d.next - 1 }

func (d *thinDisk) forget(n int) error { return d.delete(n) }

func (d *thinDisk) snapshot() error {
	err := d.g.mapper.quiesced(d.name, func() error { return d.g.mapper.message(d.pool, "create_snap %d %d", d.next, d.current) })
	if err == nil {
		d.next++
	}
	return err
}

func (d *thinDisk) oldest() (string, error) {
	name := d.name + "-oldest"
	dev, err := d.g.mapper.create(name, d.sectors(), "thin", "%s 1", d.poolDev)
	if err == nil {
		d.opened = append(d.opened, name)
	}
	return dev, err
}

func (d *thinDisk) delete(n int) error { return d.g.mapper.message(d.pool, "delete %d", n) }

// rollback puts a snapshot of the snapshot in the place of the disk, and
// deletes what was there.
func (d *thinDisk) rollback(n int) error {
	m, fresh, old := d.g.mapper, d.next, d.current
	if err := m.message(d.pool, "create_snap %d %d", fresh, n); err != nil {
		return err
	}
	d.next++
	if err := m.quiesced(d.name, func() error { return m.load(d.name, d.sectors(), "thin", "%s %d", d.poolDev, fresh) }); err != nil {
		return err
	}
	d.current = fresh
	return m.message(d.pool, "delete %d", old)
}

func (d *thinDisk) stored() (int64, error) {
	status, err := d.g.mapper.status(d.pool)
	if err != nil {
		return 0, err
	}
	used, err := poolUse(status)
	return used * thinBlock, err
}

// poolUse reads how many blocks of data are in use: the second of "transaction
// used/total used/total".
func poolUse(status []string) (int64, error) {
	if len(status) >= 3 {
		text, _, _ := strings.Cut(status[2], "/")
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("dm-thin says %q, expected the use of its pool", status)
}

func (d *thinDisk) close() error {
	var errs []error
	for _, name := range append(d.opened, d.name, d.pool) {
		if name != "" {
			errs = append(errs, d.g.mapper.remove(name))
		}
	}
	return errors.Join(append(errs, d.data.close(), d.meta.close())...)
}
