package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc on every Linux that there is.
const tick = 10 * time.Millisecond

// usage is what a process group has used so far.
type usage struct {
	cpu  time.Duration // of the living and the reaped
	sys  time.Duration // what of it was spent in the kernel
	peak int64         // bytes resident at the most, summed over the living
}

// groupUsage adds up the processes of a group: nbd-server has one for each
// connection.
func groupUsage(pgid int) (usage, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return usage{}, err
	}
	var u usage
	found := false
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) < 15 || fields[2] != strconv.Itoa(pgid) {
			continue
		}
		found = true
		for i, f := range fields[11:15] { // utime stime cutime cstime
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return usage{}, err
			}
			u.cpu += time.Duration(n) * tick
			u.sys += time.Duration(n) * tick * time.Duration(i%2)
		}
		u.peak += peakMemory(filepath.Dir(path))
	}
	if !found {
		return usage{}, fmt.Errorf("no process in group %d", pgid)
	}
	return u, nil
}

// peakMemory is VmHWM in bytes.
func peakMemory(dir string) int64 {
	text, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}
