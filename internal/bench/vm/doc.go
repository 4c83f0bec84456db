// Package vm measures the snapshots of the Linux kernel, dm-snapshot and
// dm-thin, and ours side by side in a virtual machine: the kernel's need its
// modules, and rights that a benchmark should not ask for.
//
// The processor of the machine is emulated, so that its figures mean nothing by
// themselves. All that is reported are ratios: of the throughput of a disk with
// snapshots to that of a raw disk of the same family, measured in turns in the
// same machine. One client measures all, with O_DIRECT on block devices of the
// guest: the kernel's are there anyway, ours are attached with the kernel's NBD
// client to a server in the guest. A ratio is so what a user of that kind of
// disk pays for snapshots; it does not compare kinds of disks.
package vm

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// A Plan is what is measured.
type Plan struct {
	MiB    int // of the disks
	Rounds int
	Length time.Duration // of one measurement that is not a number of writes
	// Kept are numbers of snapshots, in RAM.
	Kept []int
	// Disk says that there are disks, too.
	Disk bool
}

// The places.
const (
	InRAM  = "RAM"
	OnDisk = "disk"
)

// The kinds of rows.
const (
	Reads         = "reads of the disk"
	ReadsOldest   = "reads of the oldest snapshot"
	LaterWrites   = "later writes"
	FirstWrites   = "first writes"
	FlushedWrites = "first writes, flush after every 32"
	Create        = "create"
	Delete        = "delete"
	Rollback      = "rollback"
)

// A Row has the medians of one thing that was measured.
type Row struct {
	Site, Kind string
	// Snapshots are there when it is measured.
	Snapshots int
	// Over are the figures of contenders over that of the raw disk of their
	// family: of throughput, or of the time of a change over that of a block
	// and a flush on the raw disk of the kernel.
	Over map[string]float64
	// Ended is, for a change, the time until the background work is done too.
	Ended map[string]float64 `json:",omitempty"`
	// Space is what first writes took over what they wrote.
	Space map[string]float64 `json:",omitempty"`
}

// rowMark begins a line of the guest with a Row.
const rowMark = "ROW "

// Other lines of the guest.
const (
	doneMark   = "DONE"
	failedMark = "FAILED "
)

// parseRow reads a line of the guest; it returns false for every other line.
func parseRow(line string) (r Row, ok bool, err error) {
	text, ok := strings.CutPrefix(line, rowMark)
	if !ok {
		return r, false, nil
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, true, fmt.Errorf("the guest says %q: %w", line, err)
	}
	return r, true, nil
}

func (r Row) line() string {
	text, err := json.Marshal(r)
	if err != nil {
		return failedMark + err.Error()
	}
	return rowMark + string(text)
}

// Names are all contenders in the order of reports, raw disks left out.
func Names() (all []string) {
	for _, f := range families() {
		for _, c := range f.contenders {
			all = append(all, c.name)
		}
	}
	return all
}
