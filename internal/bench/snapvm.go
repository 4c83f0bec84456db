package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/strata-storage/strata/internal/bench/vm"
)

// vmTitle is what -only is compared with.
const vmTitle = "virtual machine"

// kernelDir is where .ci/kernel puts the kernel.
const kernelDir = ".cache/kernel"

const (
	vmMiB    = 64 // of each disk: the memory of the guest must hold them all
	vmRounds = 3
	vmLength = 300 * time.Millisecond
)

// A vmReport has what was measured in the virtual machine.
type vmReport struct {
	rows []vm.Row
	// missing says why there is nothing, or not all.
	missing string
}

// measureVM compares with snapshots of the kernel. Where there can be no
// virtual machine the report says so.
func (s *snapReport) measureVM(ctx context.Context, o options, disk string) error {
	if !o.only.MatchString(vmTitle) {
		return nil
	}
	plan := vm.Plan{MiB: vmMiB, Rounds: min(o.rounds, vmRounds), Length: vmLength, Kept: kept}
	rows, err := vm.Run(ctx, vm.Options{
		Plan: plan, Kernel: kernelDir, Strata: o.strata, Dir: o.dir, Disk: disk,
		Progress: func(line string) { fmt.Println(vmTitle+":", line) },
	})
	s.vm = &vmReport{rows: rows}
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		// The run goes on, or all that was measured before would be lost.
		s.vm.missing = strings.ReplaceAll(err.Error(), "\n", " ")
		fmt.Fprintf(os.Stderr, "bench: %s: MISSING: %s\n", vmTitle, s.vm.missing)
	}
	return nil
}

// write writes the tables of the virtual machine.
func (v *vmReport) write(b *bytes.Buffer) {
	if v == nil {
		return
	}
	fmt.Fprintf(b, "## Against snapshots of the Linux kernel\n\nIn a virtual machine with an emulated processor, so only ratios mean something. Each family is compared with its own raw disk, in turns in the same machine: *dm-snapshot* (persistent) and *dm-thin* (blocks of 64 KiB) with *dm-linear*; *staged*, *redirect* and *copyout* with the same server exporting a raw device, both attached with the kernel's NBD client. All disks of %d MiB lie on equal devices, and one client makes 4 KiB requests past the page cache, %d in flight. A ratio is what snapshots cost the user of such a disk; an NBD disk costs more than dm-linear to begin with, so the ratios of the two families are not those of their throughput.\n\n", vmMiB, inFlight)
	if v.missing != "" {
		fmt.Fprintf(b, "**Not all was measured: %s.**\n\n", v.missing)
	}
	v.writeLoads(b)
	v.writeChanges(b)
}

func (v *vmReport) writeLoads(b *bytes.Buffer) {
	names := vm.Names()
	head := false
	for _, r := range v.rows {
		if r.Ended != nil {
			continue
		}
		if !head {
			fmt.Fprintf(b, "Throughput over that of the raw disk, and in brackets the space that first writes took over the data; *dm-snapshot* has a copy for each snapshot and is measured with few.\n\n| | snapshots | %s |\n|---|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
			head = true
		}
		fmt.Fprintf(b, "| %s, %s | %d |", r.Kind, r.Site, r.Snapshots)
		for _, name := range names {
			over, ok := r.Over[name]
			space, stored := r.Space[name]
			switch {
			case !ok:
				fmt.Fprint(b, " - |")
			case stored:
				fmt.Fprintf(b, " **%.2f** (%.1fx) |", over, space)
			default:
				fmt.Fprintf(b, " **%.2f** |", over)
			}
		}
		fmt.Fprintln(b)
	}
	if head {
		fmt.Fprintln(b)
	}
}

func (v *vmReport) writeChanges(b *bytes.Buffer) {
	names := vm.Names()
	head := false
	for _, r := range v.rows {
		if r.Ended == nil {
			continue
		}
		if !head {
			fmt.Fprintf(b, "Times over that of one block and a flush on *dm-linear*: until the change has returned, and in brackets until the background work was done too. A snapshot with all the exceptions is deleted, and as much is rolled back; the disk has another snapshot. The kernel's are made by ioctl, ours by a request to the control socket.\n\n| | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
			head = true
		}
		fmt.Fprintf(b, "| %s, %s |", r.Kind, r.Site)
		for _, name := range names {
			if over, ok := r.Over[name]; ok {
				fmt.Fprintf(b, " %.1f (%.1f) |", over, r.Ended[name])
			} else {
				fmt.Fprint(b, " - |")
			}
		}
		fmt.Fprintln(b)
	}
	if head {
		fmt.Fprintln(b)
	}
}
