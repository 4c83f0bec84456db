package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// makeSparse makes a file of that size at path that holds nothing, unless
// there is one. It appears with its full size, so that of two who make it at
// a time both find it whole.
func makeSparse(path string, size int64) (undo func(), err error) {
	keep := func() {}
	if _, err := os.Lstat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return keep, nil // who opens it knows better what is wrong with it
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, fmt.Errorf("making %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	err = errors.Join(f.Truncate(size), f.Sync())
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("making %s of %d bytes: %w", path, size, err)
	}
	switch err := os.Link(f.Name(), path); {
	case errors.Is(err, fs.ErrExist):
		return keep, nil
	case err != nil:
		return nil, fmt.Errorf("making %s: %w", path, err)
	}
	d, err := os.Open(dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	undo = func() { os.Remove(path) }
	if err != nil {
		undo()
		return nil, fmt.Errorf("making %s: %w", path, err)
	}
	return undo, nil
}
