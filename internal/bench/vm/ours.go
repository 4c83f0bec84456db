package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/strata-storage/strata/internal/daemon"
)

// ourDisk is an export of our server, attached with the kernel's client.
type ourDisk struct {
	ctx      context.Context
	g        *guest
	origin   *linear
	store    *linear // nil without snapshots
	server   *exec.Cmd
	log      *os.File
	socket   string
	control  *daemon.Client
	attached []string
	taken    int
	lazy     bool // brings data home when it finds the time
}

const export = "disk"

// openOurs serves a disk with snapshots of a policy, or a raw one without.
func openOurs(policy string) func(context.Context, *guest, []string) (disk, error) {
	return func(ctx context.Context, g *guest, devices []string) (disk, error) {
		d := &ourDisk{ctx: ctx, g: g, lazy: policy == "staged"}
		var err error
		if d.origin, err = g.filled(devices[0]); err != nil {
			return nil, err
		}
		device := fmt.Sprintf("file(%q)", d.origin.dev)
		if policy != "" {
			if d.store, err = g.linear(devices[1], 0, g.device); err != nil {
				return nil, errors.Join(err, d.close())
			}
			if err := on(d.store.dev, func(c *client) error { return errors.Join(clear(c, g.device), c.flush()) }); err != nil {
				return nil, errors.Join(err, d.close())
			}
			device = fmt.Sprintf("snapshots(%q, %q, policy=%q)", d.origin.dev, d.store.dev, policy)
		}
		if err := d.serve(device); err != nil {
			return nil, errors.Join(err, d.close())
		}
		if _, err := d.attach(export); err != nil {
			return nil, errors.Join(err, d.close())
		}
		return d, nil
	}
}

// clear makes both ends of a device blank, where an old store would be found.
func clear(c *client, size int64) error {
	zeros := c.mapped[piece:][:64<<10]
	for _, off := range []int64{0, size - int64(len(zeros))} {
		if _, err := c.f.WriteAt(zeros, off); err != nil {
			return err
		}
	}
	return nil
}

func (d *ourDisk) serve(device string) (err error) {
	d.g.made++
	d.socket = fmt.Sprintf("/tmp/socket%d", d.g.made)
	control := fmt.Sprintf("/tmp/control%d", d.g.made)
	if d.log, err = os.Create(fmt.Sprintf("/tmp/log%d", d.g.made)); err != nil {
		return err
	}
	d.server = exec.CommandContext(d.ctx, "/bin/strata", "serve", "--control", control, "--listen", "unix://"+d.socket, export+"="+device)
	d.server.Stdout, d.server.Stderr = d.log, d.log
	if err := d.server.Start(); err != nil {
		return err
	}
	d.control = daemon.NewClient(control)
	for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(20 * time.Millisecond) {
		if _, err = d.control.Status(d.ctx); err == nil {
			return nil
		}
	}
	said, _ := os.ReadFile(d.log.Name())
	return fmt.Errorf("strata serve %s: %w: %s", device, err, said)
}

// attach makes a block device of an export.
func (d *ourDisk) attach(name string) (string, error) {
	dev := fmt.Sprintf("/dev/nbd%d", d.g.attached%nbdDevices)
	d.g.attached++
	out, err := exec.CommandContext(d.ctx, "/bin/nbd-client", "-unix", d.socket, dev, "-N", name).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("nbd-client: %w: %s", err, out)
	}
	d.attached = append(d.attached, dev)
	return dev, nil
}

func (d *ourDisk) path() string { return d.attached[0] }

func snapshotName(n int) string { return fmt.Sprintf("s%d", n) }

func (d *ourDisk) change(verb string, n int) error {
	if d.store == nil {
		return nil
	}
	return d.control.ChangeSnapshots(d.ctx, verb, daemon.SnapshotRequest{Export: export, Names: []string{snapshotName(n)}})
}

func (d *ourDisk) snapshot() error {
	d.taken++
	return d.change("create", d.taken)
}

func (d *ourDisk) delete(n int) error   { return d.change("delete", n) }
func (d *ourDisk) forget(n int) error   { return d.change("delete", n) }
func (d *ourDisk) rollback(n int) error { return d.change("rollback", n) }
func (d *ourDisk) newest() int          { return d.taken }

func (d *ourDisk) oldest() (string, error) {
	if d.store == nil {
		return d.path(), nil
	}
	return d.attach(export + "@" + snapshotName(1))
}

// What nobody has asked for is looked for once a second: quiet for longer is
// quiet.
const quietFor = 1300 * time.Millisecond

func (d *ourDisk) settle() error {
	if d.lazy {
		return d.quiet(quietFor)
	}
	return d.quiet(briefly)
}

func (d *ourDisk) quiet(long time.Duration) error {
	if d.store == nil {
		return nil
	}
	since := time.Now()
	for start := since; time.Since(start) < time.Minute; time.Sleep(2 * time.Millisecond) {
		list, err := d.control.Snapshots(d.ctx, export)
		if err != nil {
			return err
		}
		if s := list.Status; s.Task != "idle" && s.Task != "" || s.RollingBack != "" {
			since = time.Now()
		} else if time.Since(since) >= long {
			return nil
		}
	}
	return errors.New("background work does not end")
}

func (d *ourDisk) stored() (int64, error) {
	if d.store == nil {
		return 0, nil
	}
	list, err := d.control.Snapshots(d.ctx, export)
	if err != nil {
		return 0, err
	}
	return list.Status.Data + list.Status.Meta, nil
}

func (d *ourDisk) close() error {
	var errs []error
	for _, dev := range d.attached {
		if out, err := exec.Command("/bin/nbd-client", "-d", dev).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("nbd-client -d: %w: %s", err, strings.TrimSpace(string(out))))
		}
	}
	if d.server != nil && d.server.Process != nil {
		d.server.Process.Kill()
		d.server.Wait()
	}
	if d.log != nil {
		d.log.Close()
	}
	if d.store != nil {
		errs = append(errs, d.store.close())
	}
	return errors.Join(append(errs, d.origin.close())...)
}
