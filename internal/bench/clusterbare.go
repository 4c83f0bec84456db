package main

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What bare files need for what a cluster cannot do without says what the place where they
// lie bounds.

// The names of these rates.
const (
	bareRounds = "writes to bare files, flushed together" // per second
	bareNew    = "a block of a bare file that is new"     // seconds
	bareOld    = "a block of a bare file that is overwritten"
	bareLong   = "checksums of 4 MiB and a write of them to a bare file" // seconds
)

// bareSize is the size of a bare file in blocks.
const bareSize = 64 << 20 / chunk

// measureBareFlushes measures how many flushed writes the files of all copies get when
// nothing else is done: as many at a time as there are writers, then a barrier, and at the
// same time one of a log for each.
func (l *clusterLab) measureBareFlushes(long time.Duration) (err error) {
	files := make([]*bareFile, usual.copies)
	for i := range files {
		if files[i], err = newBareFile(filepath.Join(l.o.dir, fmt.Sprintf("bare%d", i))); err != nil {
			return err
		}
		defer files[i].remove()
	}
	for range l.o.rounds {
		n, begin := 0, time.Now()
		for ; time.Since(begin) < long; n++ {
			errs := make([]error, len(files))
			var all sync.WaitGroup
			for i, f := range files {
				all.Go(func() { errs[i] = f.round(flushedDepth) })
			}
			all.Wait()
			if err := errors.Join(errs...); err != nil {
				return err
			}
		}
		l.report.rate(bareRounds, float64(n*flushedDepth)/time.Since(begin).Seconds())
	}
	return nil
}

// A bareFile is a file and a log.
type bareFile struct {
	file, log *os.File
	data      []byte
}

func newBareFile(path string) (*bareFile, error) {
	f := &bareFile{data: make([]byte, chunk)}
	var err, lerr error
	f.file, err = os.Create(path)
	f.log, lerr = os.Create(path + ".log")
	if err = errors.Join(err, lerr); err == nil {
		_, err = f.overwrite(bareSize)
	}
	if err == nil {
		err = f.file.Sync()
	}
	return f, err
}

func (f *bareFile) remove() {
	for _, o := range []*os.File{f.file, f.log} {
		o.Close()
		os.Remove(o.Name())
	}
}

// overwrite writes the first n blocks, and returns how long one takes.
func (f *bareFile) overwrite(n int) (each time.Duration, err error) {
	begin := time.Now()
	for i := range n {
		if _, err := f.file.WriteAt(f.data, int64(i)*chunk); err != nil {
			return 0, err
		}
	}
	return time.Since(begin) / time.Duration(n), nil
}

// round writes n blocks somewhere, and makes them and the log durable.
func (f *bareFile) round(n int) error {
	for range n {
		if _, err := f.file.WriteAt(f.data, rand.Int64N(bareSize)*chunk); err != nil {
			return err
		}
	}
	if _, err := f.log.Write(f.data); err != nil {
		return err
	}
	logged := make(chan error, 1)
	go func() { logged <- unix.Fdatasync(int(f.log.Fd())) }()
	return errors.Join(unix.Fdatasync(int(f.file.Fd())), <-logged)
}

// bareFlushes tells what flushed writes on a disk could be at most.
func (c *clusterReport) bareFlushes(r clusterRow) []string {
	rate := c.rateOf(bareRounds)
	if r.site != onDisk || rate == 0 {
		return nil
	}
	text := fmt.Sprintf("%d files on this disk and their logs, with %d writes and a barrier at a time and nothing else to do, get %.1f k/s", usual.copies, flushedDepth, rate/1e3)
	if base := sheepFigures[r.what]; base > 0 {
		text += fmt.Sprintf(" of them, %.2fx", rate/base)
	}
	us := r.figures[usual.String()].iops
	return []string{text + fmt.Sprintf("; of the time of a flushed write that is %.0f %%", us/rate*100)}
}

// measureBareBlocks measures what a block of a file costs the first time, and then.
func (l *clusterLab) measureBareBlocks() error {
	path := filepath.Join(l.o.dir, "bare")
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	f := &bareFile{file: file, log: file, data: make([]byte, chunk)}
	defer f.remove()
	for _, what := range []string{bareNew, bareOld} {
		each, err := f.overwrite(l.firstChunks() * usual.copies)
		if err != nil {
			return err
		}
		l.report.rate(what, each.Seconds())
	}
	return nil
}

// longWrite is the size of long writes.
const longWrite = 4 << 20

// measureBareLong measures what a disk cannot do without for a long write: it makes the
// checksum of each block, and writes all to a file.
func (l *clusterLab) measureBareLong() error {
	f, err := newBareFile(filepath.Join(l.o.dir, "bare"))
	if err != nil {
		return err
	}
	defer f.remove()
	// As many as are under way: what was received lies in the outer cache at best.
	data := make([]byte, 4*longWrite)
	for i := range data {
		data[i] = byte(i)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	var sum uint32
	for range l.o.rounds {
		begin := time.Now()
		for at := 0; at < bareSize*chunk; at += longWrite {
			p := data[at%len(data):][:longWrite]
			for off := 0; off < longWrite; off += chunk {
				sum ^= crc32.Checksum(p[off:off+chunk], table)
			}
			if _, err := f.file.WriteAt(p, int64(at)); err != nil {
				return err
			}
		}
		data[0] ^= byte(sum)
		l.report.rate(bareLong, time.Since(begin).Seconds()/(bareSize*chunk/longWrite))
	}
	return nil
}

// longBounds tells what long writes could be at most if what every copy needs was all that
// is done besides passing them on.
func (c *clusterReport) longBounds(r clusterRow) []string {
	each, echo, cores := c.rateOf(bareLong), r.figures[gatewayName], runtime.NumCPU()
	if r.bs != longWrite || each == 0 || echo.iops == 0 {
		return nil
	}
	least := echo.cpu.Seconds() + echo.busy/echo.iops + float64(usual.copies)*each
	text := fmt.Sprintf("checksums and a write to a file in memory take %s for each copy: with those, the messages and the client %d processors give %.0f/s at most",
		micros(time.Duration(each*1e9)), cores, float64(cores)/least)
	if base := sheepFigures[r.what]; base > 0 {
		text += fmt.Sprintf(", %.2fx", float64(cores)/least/base)
	}
	return []string{text}
}

// bareBlocks tells which part of what a first write takes longer than the next one goes
// into the memory for the blocks, which were not there.
func (c *clusterReport) bareBlocks(first, again float64) []string {
	fresh, old := c.rateOf(bareNew), c.rateOf(bareOld)
	if fresh == 0 || old == 0 {
		return nil
	}
	cores := runtime.NumCPU()
	took := func(seconds float64) string { return micros(time.Duration(seconds * 1e9)) }
	return []string{fmt.Sprintf("a first write takes %s longer than the next one; a block of a bare file takes %s when it is new and %s then, which for %d copies on %d processors is %s of that",
		took(1/first-1/again), took(fresh), took(old), usual.copies, cores, took((fresh-old)*float64(usual.copies)/float64(cores)))}
}
