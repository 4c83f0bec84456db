package main

import (
	"strings"
	"testing"
	"time"
)

// What bare files get is measured, and told where it bounds a row.
func TestBare(t *testing.T) {
	t.Parallel()
	report := newClusterReport()
	l := &clusterLab{&lab{o: options{dir: t.TempDir(), rounds: 1, size: 8}}, onDisk, report}
	for _, f := range []func() error{
		func() error { return l.measureBareFlushes(10 * time.Millisecond) }, l.measureBareLong, l.measureBareBlocks,
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{bareRounds, bareLong, bareNew, bareOld} {
		if report.rateOf(name) <= 0 {
			t.Errorf("nothing was measured of %s", name)
		}
	}
	row := clusterRow{site: onDisk, what: flushedEach, figures: map[string]figure{usual.String(): {iops: 1000}}}
	long := clusterRow{site: onTmpfs, bs: longWrite, figures: map[string]figure{gatewayName: {iops: 200, cpu: 7 * time.Millisecond, busy: 0.1}}}
	for want, got := range map[string][]string{
		"3 files on this disk":  report.bareFlushes(row),
		"checksums and a write": report.longBounds(long),
		"a first write takes":   report.bareBlocks(1e5, 2e5),
	} {
		if len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%q, expected one that begins with %q", got, want)
		}
		t.Log(got)
	}
	row.site = onTmpfs
	if got := report.bareFlushes(row); got != nil {
		t.Errorf("in memory: %q", got)
	}
}
