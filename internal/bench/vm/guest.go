package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The names of what the guest finds.
const (
	planFile   = "plan.json"
	moduleDir  = "modules"
	nbdDevices = 16
	// rawDevices is how many raw devices there are of each kind: what the
	// family with the most of them wants.
	rawDevices = 7
	// deviceMiB is the size of each of them.
	deviceMiB = 208
)

// modules are loaded in this order.
func modules() []string {
	return []string{
		"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk",
		"dm-mod", "dm-bufio", "dm-snapshot", "libcrc32c", "dm-bio-prison", "dm-persistent-data", "dm-thin-pool",
		fmt.Sprintf("brd rd_nr=%d rd_size=%d", rawDevices, deviceMiB<<10), fmt.Sprintf("nbd nbds_max=%d", nbdDevices),
	}
}

// A guest is the virtual machine, seen from within.
type guest struct {
	plan     Plan
	device   int64 // bytes of a raw device
	mapper   *mapper
	made     int // devices and other things with a number
	attached int
	start    time.Time
}

// say tells whoever looks at the console what is being done.
func (g *guest) say(format string, args ...any) {
	fmt.Printf("%3.0f s: %s\n", time.Since(g.start).Seconds(), fmt.Sprintf(format, args...))
}

// size is that of the disks.
func (g *guest) size() int64 { return int64(g.plan.MiB) << 20 }

// Init is the first process of the machine: it carries out the plan, says on the
// console what comes of it, and powers the machine off.
func Init() {
	err := begin()
	if err == nil {
		err = measure()
	}
	if err != nil {
		fmt.Println(failedMark + strings.ReplaceAll(err.Error(), "\n", "; "))
	} else {
		fmt.Println(doneMark)
	}
	os.Stdout.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// begin makes the machine usable.
func begin() error {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}} {
		if err := os.MkdirAll(m[1], 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	console, err := os.OpenFile("/dev/ttyS0", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for fd := range 3 {
		if err := unix.Dup2(int(console.Fd()), fd); err != nil {
			return err
		}
	}
	for _, line := range modules() {
		name, args, _ := strings.Cut(line, " ")
		if err := insert(filepath.Join("/", moduleDir, name+".ko"), args); err != nil {
			return err
		}
	}
	return nil
}

// insert loads a module; one that is there already is fine.
func insert(path, args string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), args, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("module %s: %w", filepath.Base(path), err)
	}
	return nil
}

// measure carries out the plan.
func measure() error {
	text, err := os.ReadFile("/" + planFile)
	if err != nil {
		return err
	}
	g := &guest{device: deviceMiB << 20, start: time.Now()}
	if err := json.Unmarshal(text, &g.plan); err != nil {
		return err
	}
	if g.mapper, err = openMapper(); err != nil {
		return err
	}
	return g.carryOut(context.Background())
}

// carryOut measures what is needed most first: the time is bounded.
func (g *guest) carryOut(ctx context.Context) error {
	if err := g.changes(ctx, InRAM); err != nil {
		return fmt.Errorf("%s: %w", InRAM, err)
	}
	for i, n := range g.plan.Kept {
		kinds := []string{Reads, ReadsOldest, LaterWrites, FirstWrites}
		if i == 0 {
			kinds = append(kinds, FlushedWrites)
		}
		if err := g.kept(ctx, InRAM, n, kinds); err != nil {
			return err
		}
	}
	if !g.plan.Disk {
		return nil
	}
	if err := g.kept(ctx, OnDisk, 1, []string{FirstWrites, FlushedWrites}); err != nil {
		return fmt.Errorf("%s: %w", OnDisk, err)
	}
	return g.changes(ctx, OnDisk)
}

// devices are the raw devices of a place.
func devices(site string) (all []string) {
	for i := range rawDevices {
		if site == OnDisk {
			all = append(all, fmt.Sprintf("/dev/vd%c", 'a'+i))
		} else {
			all = append(all, fmt.Sprintf("/dev/ram%d", i))
		}
	}
	return all
}

// lines calls f with each line of what the guest says.
func lines(s *bufio.Scanner, f func(line string) (more bool)) error {
	for s.Scan() {
		if !f(strings.TrimRight(s.Text(), "\r")) {
			return nil
		}
	}
	return s.Err()
}
