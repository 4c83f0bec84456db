package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// A qcowStack is a chain of overlays over the image, served by qemu-nbd. A
// snapshot is one more overlay.
type qcowStack struct {
	l      *lab
	dir    string
	format string // options of qemu-img create
	top    string
	layers []string
	r      *running
}

// serveQcow serves a qcow2 file as qemu-nbd does by itself.
func serveQcow(ctx context.Context, l *lab, path string) (*running, error) {
	return l.start(ctx, server{name: "qemu-nbd", command: func(_ *lab, p place) []string {
		return []string{"qemu-nbd", "-f", "qcow2", "-t", "-e", "16", "-k", p.socket, path}
	}}, overUnix)
}

func runImg(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "qemu-img", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("qemu-img %s: %w: %s", args[0], err, out)
	}
	return nil
}

func (s *qcowStack) snapshot(ctx context.Context) (err error) {
	s.end()
	kind := "qcow2"
	if len(s.layers) == 0 {
		kind = "raw"
	}
	path := filepath.Join(s.dir, fmt.Sprintf("overlay%d", len(s.layers)))
	if err := runImg(ctx, "create", "-q", "-f", "qcow2", "-o", s.format, "-F", kind, "-b", s.top, path); err != nil {
		return err
	}
	s.top, s.layers = path, append(s.layers, path)
	s.r, err = serveQcow(ctx, s.l, path)
	return err
}

func (s *qcowStack) end() {
	if s.r != nil {
		s.r.stop()
		s.r = nil
	}
}

func (s *qcowStack) settle(context.Context) error { return nil }
func (s *qcowStack) server() *running             { return s.r }
func (s *qcowStack) oldest() string               { return "" }

func (s *qcowStack) stored() (total int64, err error) {
	for _, path := range s.layers {
		n, err := allocated(path)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (s *qcowStack) close() {
	s.end()
	for _, path := range s.layers {
		os.Remove(path)
	}
}

// An internalStack is a qcow2 file that has its snapshots inside.
type internalStack struct {
	l     *lab
	path  string
	taken int
	full  int64 // bytes of the file without snapshots
	r     *running
}

func openInternal(ctx context.Context, l *lab, dir string) (stack, error) {
	template := filepath.Join(l.o.dir, "template.qcow2")
	if _, err := os.Stat(template); err != nil {
		if err := runImg(ctx, "convert", "-f", "raw", "-O", "qcow2", l.image, template); err != nil {
			return nil, err
		}
	}
	s := &internalStack{l: l, path: filepath.Join(dir, "internal")}
	if err := copyFile(s.path, template); err != nil {
		return nil, err
	}
	var err error
	if s.full, err = allocated(s.path); err != nil {
		return nil, err
	}
	s.r, err = serveQcow(ctx, l, s.path)
	return s, err
}

func (s *internalStack) snapshot(ctx context.Context) (err error) {
	s.r.stop()
	s.taken++
	if err := runImg(ctx, "snapshot", "-c", snapshotName(s.taken), s.path); err != nil {
		return err
	}
	s.r, err = serveQcow(ctx, s.l, s.path)
	return err
}

func (s *internalStack) settle(context.Context) error { return nil }
func (s *internalStack) server() *running             { return s.r }
func (s *internalStack) oldest() string               { return "" }

func (s *internalStack) stored() (int64, error) {
	n, err := allocated(s.path)
	return n - s.full, err
}

func (s *internalStack) close() {
	s.r.stop()
	os.Remove(s.path)
}
