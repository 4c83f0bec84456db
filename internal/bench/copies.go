package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A copyCase is a way in which an image moves.
type copyCase struct {
	title    string
	from, to string // "file", "server": what is at each end
	sparse   bool   // the image is mostly holes
}

var copyCases = []copyCase{
	{"file to server", "file", "server", false},
	{"server to file", "server", "file", false},
	{"sparse file to server", "file", "server", true},
	{"sparse server to file", "server", "file", true},
	{"server to server", "server", "server", false},
}

// A copier is a program that copies.
type copier struct {
	name, program string
	command       func(l *lab, from, to string, toServer bool) []string
}

// bareCopier moves as much between a server and nothing: of what every tool has
// to do, one half.
var bareCopier = copier{limitName, "", func(l *lab, from, to string, toServer bool) []string {
	if toServer {
		return []string{l.o.strata, "copy", "--sparse", "off", fmt.Sprintf("pattern(\"%dM\")", copySize), to}
	}
	return []string{l.o.strata, "copy", from, fmt.Sprintf("null(\"%dM\")", copySize)}
}}

var copiers = []copier{
	{"strata", "", func(l *lab, from, to string, _ bool) []string { return []string{l.o.strata, "copy", from, to} }},
	{"nbdcopy", "nbdcopy", func(_ *lab, from, to string, _ bool) []string { return []string{"nbdcopy", "--flush", from, to} }},
	{"qemu-img", "qemu-img", func(_ *lab, from, to string, toServer bool) []string {
		args := []string{"qemu-img", "convert", "-f", "raw", "-O", "raw", "-W", "-m", "16"}
		if toServer {
			args = append(args, "-n")
		}
		return append(args, from, to)
	}},
}

// copySize is the size of the images that are copied, in MiB.
const copySize = 1024

// measureCopies compares the copy tools. All copy between files in memory and
// servers of files in memory; the servers are nbdkit's, so that the tools and
// nothing else differ, or ours where nbdkit is not installed.
func (l *lab) measureCopies(ctx context.Context, report *report) error {
	if !l.o.only.MatchString("copy") {
		return nil
	}
	section := report.copySection()
	for _, c := range copyCases {
		figures := map[string][]copyTime{}
		for round := range l.o.rounds {
			for _, tool := range rotated(append(slices.Clone(copiers), bareCopier), round) {
				if tool.program != "" {
					if _, err := exec.LookPath(tool.program); err != nil {
						continue
					}
				}
				if tool.name == limitName && c.sparse {
					continue
				}
				took, err := l.copyOnce(ctx, c, tool)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", tool.name, c.title, err)
				}
				figures[tool.name] = append(figures[tool.name], took)
			}
		}
		section.add(c, figures)
	}
	return nil
}

// copyOnce copies once, and checks the copy.
func (l *lab) copyOnce(ctx context.Context, c copyCase, tool copier) (t copyTime, err error) {
	source, target := filepath.Join(l.o.dir, "copy.from"), filepath.Join(l.o.dir, "copy.to")
	defer os.Remove(source)
	defer os.Remove(target)
	if err := l.makeImage(source, c.sparse); err != nil {
		return t, err
	}
	// A machine that is a guest gets memory from its host when it first uses
	// it, which takes longer than the copy.
	if err := errors.Join(l.makeImage(target, false), os.Remove(target)); err != nil {
		return t, err
	}
	if c.to == "server" {
		if err := makeFile(target, strings.NewReader("")); err != nil {
			return t, err
		}
		if err := os.Truncate(target, copySize<<20); err != nil {
			return t, err
		}
	}
	ends, servers := []string{source, target}, []*running(nil)
	for i, kind := range []string{c.from, c.to} {
		if kind != "server" {
			continue
		}
		r, err := l.startCopyServer(ctx, ends[i])
		if err != nil {
			return t, err
		}
		defer r.stop()
		ends[i], servers = r.uri, append(servers, r)
	}
	args := tool.command(l, ends[0], ends[1], c.to == "server")
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	t.took = time.Since(start)
	if err != nil {
		return t, fmt.Errorf("%w: %s", err, out)
	}
	t.tool = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	for _, r := range servers {
		u, err := groupUsage(r.group)
		if err != nil {
			return t, err
		}
		t.servers += u.cpu
	}
	if tool.name == limitName {
		return t, nil
	}
	if out, err := exec.CommandContext(ctx, "cmp", source, target).CombinedOutput(); err != nil {
		return t, fmt.Errorf("the copy differs: %s", out)
	}
	return t, nil
}

// makeImage writes an image with data all over, or in one MiB of eight.
func (l *lab) makeImage(path string, sparse bool) error {
	data, err := os.ReadFile(l.image)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(copySize << 20); err != nil {
		return err
	}
	step := 1 << 20
	if sparse {
		step = 8 << 20
	}
	for off := 0; off < copySize<<20; off += step {
		from := off % (len(data) - 1<<20)
		if _, err := f.WriteAt(data[from:from+1<<20], int64(off)); err != nil {
			return err
		}
	}
	return f.Close()
}

// startCopyServer serves an existing file.
func (l *lab) startCopyServer(ctx context.Context, path string) (*running, error) {
	s := nbdkitFile
	if _, err := exec.LookPath("nbdkit"); err != nil {
		s = strataFile
	}
	base := s.command
	s.file = false // the image is there already, and stays
	s.command = func(l *lab, p place) []string {
		p.image = path
		return base(l, p)
	}
	return l.start(ctx, s, overUnix)
}
