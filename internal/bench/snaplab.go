package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/strata-storage/strata/nbd"
)

// A snapLab measures snapshots in one place: a folder in memory or on a disk.
type snapLab struct {
	*lab
	site   string
	report *snapReport
}

// The places.
const (
	onTmpfs = "tmpfs"
	onDisk  = "disk"
)

// The kinds of rows.
const (
	firstWrites   = "first writes"
	flushedWrites = "first writes, flush after every 32"
	crowdedWrites = "first writes, 1 and 64 snapshots"
	readDisk      = "reads of the disk"
	readOldest    = "reads of the oldest snapshot"
	laterWrites   = "later writes"
)

// A contender is a keeper with so many snapshots before a measurement.
type contender struct {
	keeper
	crowd int
}

func (c contender) label() string {
	if c.crowd > 1 {
		return fmt.Sprintf("%s, %d", c.name, c.crowd)
	}
	return c.name
}

// sizeChunks is the number of chunks of the disk.
func (l *lab) sizeChunks() int { return l.o.size << 20 / chunk }

// firstChunks is the number of first writes of a measurement: so few that most
// fall into clusters of 64 KiB of their own.
func (l *lab) firstChunks() int { return l.sizeChunks() / 32 }

// synced makes everything durable, so that nobody pays for what another one
// has written.
func (l *lab) synced() error {
	f, err := os.Open(l.o.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// measureFirst measures writes right after snapshots were taken: in every round
// each contender begins with new snapshots, so that its writes are first ones.
func (l *snapLab) measureFirst(ctx context.Context, kind string, contenders []contender) error {
	if !l.o.only.MatchString(l.site + ": " + kind) {
		return nil
	}
	figures, space := map[string][]figure{}, map[string][]float64{}
	for round := range l.o.rounds {
		for _, c := range contenders {
			f, stored, err := l.firstOnce(ctx, kind, c, uint64(round))
			if err != nil {
				return fmt.Errorf("%s, %s: %w", c.label(), kind, err)
			}
			figures[c.label()] = append(figures[c.label()], f)
			space[c.label()] = append(space[c.label()], float64(stored)/float64(l.firstChunks()*chunk))
		}
	}
	row := newSnapRow(l.site, kind, 1, figures)
	row.space = map[string]float64{}
	for name, all := range space {
		row.space[name] = middle(all, func(v float64) float64 { return v })
	}
	l.report.add(row)
	return nil
}

// firstOnce returns also how many bytes the writes took.
func (l *snapLab) firstOnce(ctx context.Context, kind string, c contender, round uint64) (f figure, stored int64, err error) {
	s, err := c.openInDir(ctx, l.lab, filepath.Join(l.o.dir, "one"))
	if err != nil {
		return f, 0, err
	}
	defer s.close()
	for range c.crowd {
		if err := s.snapshot(ctx); err != nil {
			return f, 0, err
		}
	}
	if err := l.synced(); err != nil {
		return f, 0, err
	}
	before, err := s.stored()
	if err != nil {
		return f, 0, err
	}
	uri := s.server().uri
	f, err = charge(s.server(), func() (figure, int64, error) {
		if kind == flushedWrites {
			return flushing(ctx, uri, round, l.firstChunks())
		}
		return runFio(ctx, uri, load{"randwrite", chunk, inFlight, 1}, fmt.Sprintf("--size=%dM", l.o.size), fmt.Sprintf("--io_size=%d", l.firstChunks()*chunk))
	})
	if err != nil {
		return f, 0, err
	}
	if err := errors.Join(flush(ctx, uri), l.synced()); err != nil {
		return f, 0, err
	}
	after, err := s.stored()
	return f, after - before, err
}

func flush(ctx context.Context, uri string) error {
	c, err := (&nbd.Dialer{}).Dial(ctx, uri)
	if err != nil {
		return err
	}
	return errors.Join(c.Flush(ctx), c.Close())
}

// measureKept measures disks that have so many snapshots, which have been
// written between.
func (l *snapLab) measureKept(ctx context.Context, snapshots int, keepers []keeper) error {
	kinds := slices.DeleteFunc([]string{readDisk, readOldest, laterWrites}, func(kind string) bool {
		return !l.o.only.MatchString(l.site + ": " + keptTitle(kind, snapshots))
	})
	if len(kinds) == 0 {
		return nil
	}
	var names []string
	stacks := map[string]stack{}
	defer func() {
		for _, s := range stacks {
			s.close()
		}
		os.RemoveAll(filepath.Join(l.o.dir, "kept"))
	}()
	for i, k := range keepers {
		if k.most > 0 && snapshots > k.most {
			continue
		}
		s, err := k.openInDir(ctx, l.lab, filepath.Join(l.o.dir, "kept", fmt.Sprint(i)))
		if err != nil {
			return err
		}
		names, stacks[k.name] = append(names, k.name), s
		if err := errors.Join(populate(ctx, s, snapshots, l.firstChunks()), s.settle(ctx)); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	for _, kind := range kinds {
		if err := l.keptRow(ctx, kind, snapshots, names, stacks); err != nil {
			return fmt.Errorf("%s: %w", keptTitle(kind, snapshots), err)
		}
	}
	return nil
}

// window is the part of the disk that later writes go to, in MiB.
func (l *lab) window() int { return max(l.o.size/16, 1) }

func (l *snapLab) keptRow(ctx context.Context, kind string, snapshots int, names []string, stacks map[string]stack) error {
	if kind == laterWrites {
		for _, s := range stacks {
			_, _, err := runFio(ctx, s.server().uri, load{"write", 64 << 10, 4, 1}, fmt.Sprintf("--size=%dM", l.window()))
			if err := errors.Join(err, s.settle(ctx)); err != nil {
				return err
			}
		}
	}
	if err := l.synced(); err != nil {
		return err
	}
	figures := map[string][]figure{}
	for range l.o.rounds {
		for _, name := range names {
			s := stacks[name]
			uri, ld, size := s.server().uri, load{"randread", chunk, inFlight, 1}, l.o.size
			switch kind {
			case laterWrites:
				ld.rw, size = "randwrite", l.window()
			case readOldest:
				if name != rawName {
					uri = s.oldest()
				}
			}
			if uri == "" {
				continue
			}
			f, err := charge(s.server(), func() (figure, int64, error) {
				return runFio(ctx, uri, ld, "--time_based", fmt.Sprintf("--runtime=%d", l.o.seconds), fmt.Sprintf("--size=%dM", size))
			})
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			figures[name] = append(figures[name], f)
		}
	}
	l.report.add(newSnapRow(l.site, kind, snapshots, figures))
	return nil
}
