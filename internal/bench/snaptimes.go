package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// A change is something that is done to snapshots.
type change struct {
	what string
	// ours are the arguments of strata snapshot, theirs of qemu-img.
	ours, theirs []string
}

// changes are done in this order to a disk with one snapshot that has been
// written since.
var changes = []change{
	{"create", []string{"create", exportName, "next"}, []string{"snapshot", "-c", "next"}},
	{"rollback", []string{"rollback", exportName, snapshotName(1)}, []string{"snapshot", "-a", snapshotName(1)}},
	{"delete", []string{"rm", exportName, snapshotName(1)}, []string{"snapshot", "-d", snapshotName(1)}},
}

// overlayCreate is the name of the only change that a chain knows.
const overlayCreate = "qcow2 overlay"

// A timing is how long changes took, from the start of the program to its end.
type timing struct {
	returned map[string]time.Duration
	// ended is when the background work was done, too.
	ended map[string]time.Duration
}

// measureChanges measures how long the commands of users take. Ours are made
// while the disk is served, those of qemu-img while it is not.
func (l *snapLab) measureChanges(ctx context.Context) error {
	if !l.o.only.MatchString(l.site + ": changes") {
		return nil
	}
	returned, ended := map[string][]time.Duration{}, map[string][]time.Duration{}
	note := func(what, who string, took, whole time.Duration) {
		returned[what+" "+who] = append(returned[what+" "+who], took)
		ended[what+" "+who] = append(ended[what+" "+who], whole)
	}
	for range l.o.rounds {
		for _, k := range []keeper{staged, redirect, copyOut} {
			if err := l.changeOurs(ctx, k, note); err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
		}
		if len(installed([]keeper{internals})) == 0 {
			continue
		}
		if err := l.changeTheirs(ctx, note); err != nil {
			return err
		}
	}
	t := &timing{map[string]time.Duration{}, map[string]time.Duration{}}
	for key := range returned {
		t.returned[key], t.ended[key] = quantile(returned[key], 0.5), quantile(ended[key], 0.5)
	}
	l.report.changes[l.site] = t
	fmt.Printf("%s: changes: %v\n", l.site, t.returned)
	return nil
}

// briefly is for how long there must be no background work to say that it has
// ended, where something was there to begin at once.
const briefly = 60 * time.Millisecond

func (l *snapLab) changeOurs(ctx context.Context, k keeper, note func(what, who string, took, whole time.Duration)) error {
	s, err := k.openInDir(ctx, l.lab, filepath.Join(l.o.dir, "one"))
	if err != nil {
		return err
	}
	defer s.close()
	if err := errors.Join(populate(ctx, s, 1, l.firstChunks()), s.settle(ctx), l.synced()); err != nil {
		return err
	}
	us := s.(*ourStack)
	for _, c := range changes {
		args := append([]string{"snapshot", c.ours[0], "--control", us.control}, c.ours[1:]...)
		start := time.Now()
		if out, err := exec.CommandContext(ctx, l.o.strata, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", c.what, err, out)
		}
		took := time.Since(start)
		if err := us.waitIdle(ctx, briefly); err != nil {
			return err
		}
		note(c.what, k.name, took, max(time.Since(start)-briefly, took))
	}
	return nil
}

func (l *snapLab) changeTheirs(ctx context.Context, note func(what, who string, took, whole time.Duration)) error {
	dir := filepath.Join(l.o.dir, "one")
	s, err := internals.openInDir(ctx, l.lab, dir)
	if err != nil {
		return err
	}
	defer s.close()
	if err := errors.Join(populate(ctx, s, 1, l.firstChunks()), l.synced()); err != nil {
		return err
	}
	in := s.(*internalStack)
	in.r.stop()
	timed := func(what, who string, args ...string) error {
		start := time.Now()
		err := runImg(ctx, args...)
		note(what, who, time.Since(start), time.Since(start))
		return err
	}
	for _, c := range changes {
		if err := timed(c.what, internals.name, append(c.theirs[:len(c.theirs):len(c.theirs)], in.path)...); err != nil {
			return err
		}
	}
	over := filepath.Join(dir, "over")
	defer os.Remove(over)
	return timed("create", overlayCreate, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", l.image, over)
}
