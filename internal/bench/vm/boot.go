package vm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Options are what is needed to measure.
type Options struct {
	Plan
	Kernel string // folder that .ci/kernel makes
	Strata string // the program to measure
	Dir    string // for files of the moment
	// Disk is a folder on a disk for the disks of the guest, or "".
	Disk string
	// Progress gets every line that the guest says.
	Progress func(line string)
}

// ErrMissing is about a machine that has not what a virtual one needs.
var ErrMissing = errors.New("cannot be measured here")

// timeLimit bounds the life of the machine.
const timeLimit = 6 * time.Minute

// memoryMiB is the memory of the machine.
const memoryMiB = 2304

// Run boots a machine that carries out the plan, and returns what it has
// measured, also if there is an error.
func Run(ctx context.Context, o Options) (rows []Row, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	initrd := filepath.Join(o.Dir, "initrd")
	defer os.Remove(initrd)
	if err := o.pack(initrd); err != nil {
		return nil, err
	}
	disks, err := o.disks()
	defer func() {
		for _, path := range disks {
			os.Remove(path)
		}
	}()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeLimit, fmt.Errorf("the virtual machine was stopped after %v", timeLimit))
	defer cancel()
	return o.boot(ctx, initrd, disks)
}

// check looks for what must be installed.
func (o Options) check() error {
	for _, name := range []string{"qemu-system-x86_64", "nbd-client", "ldd"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("snapshots of the kernel: %w: %w", ErrMissing, err)
		}
	}
	files := []string{"vmlinuz"}
	for _, line := range modules() {
		name, _, _ := strings.Cut(line, " ")
		files = append(files, name+".ko")
	}
	for _, name := range files {
		if _, err := os.Stat(filepath.Join(o.Kernel, name)); err != nil {
			return fmt.Errorf("snapshots of the kernel: %w: %w; .ci/kernel fetches it", ErrMissing, err)
		}
	}
	return nil
}

// pack makes the file system that the machine begins with.
func (o Options) pack(path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	client, err := exec.LookPath("nbd-client")
	if err != nil {
		return err
	}
	o.Plan.Disk = o.Disk != ""
	plan, err := json.Marshal(o.Plan)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	a := newArchive(w)
	a.program("init", self)
	a.program("bin/strata", o.Strata)
	a.program("bin/nbd-client", client)
	a.file(planFile, plan)
	for _, line := range modules() {
		name, _, _ := strings.Cut(line, " ")
		a.copy(filepath.Join(moduleDir, name+".ko"), filepath.Join(o.Kernel, name+".ko"))
	}
	return errors.Join(a.close(), w.Flush(), f.Close())
}

// disks makes the files of the disks of the guest.
func (o Options) disks() (all []string, err error) {
	if o.Disk == "" {
		return nil, nil
	}
	for i := range rawDevices {
		path := filepath.Join(o.Disk, fmt.Sprintf("guest%d", i))
		all = append(all, path)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, deviceMiB<<20)); err != nil {
			return all, err
		}
	}
	return all, nil
}

// boot runs the machine until it has said that it is done. The processor is
// emulated: a machine that is virtual itself often has a /dev/kvm on which a
// kernel does not get far.
func (o Options) boot(ctx context.Context, initrd string, disks []string) (rows []Row, err error) {
	args := []string{
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", fmt.Sprint(memoryMiB),
		"-kernel", filepath.Join(o.Kernel, "vmlinuz"), "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1",
	}
	for i, path := range disks {
		args = append(args, "-drive", fmt.Sprintf("if=none,id=d%d,format=raw,cache=writeback,file=%s", i, path),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=d%d", i))
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, 5*time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	rows, err = o.listen(bufio.NewScanner(out))
	// It may hang instead of powering itself off.
	cmd.Process.Kill()
	cmd.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return rows, cause
	}
	if err != nil && stderr.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return rows, err
}

// listen collects the rows that the guest says, until it is done.
func (o Options) listen(s *bufio.Scanner) (rows []Row, err error) {
	over := false
	last := ""
	scanErr := lines(s, func(line string) bool {
		r, ok, bad := parseRow(line)
		reason, failed := strings.CutPrefix(line, failedMark)
		switch {
		case bad != nil:
			err = bad
		case ok:
			rows = append(rows, r)
		case failed:
			err = fmt.Errorf("in the guest: %s", reason)
		}
		over = line == doneMark
		if strings.TrimSpace(line) != "" {
			last = line
			o.Progress(line)
		}
		return !over && err == nil
	})
	if err == nil && scanErr == nil && !over {
		err = fmt.Errorf("the guest has ended before it was done, after %q", last)
	}
	return rows, errors.Join(err, scanErr)
}
