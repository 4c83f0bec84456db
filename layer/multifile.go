package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/strata-storage/strata/block"
)

// Multifile opens the files path.0, path.1 and so on with open and puts them
// end to end, as nbd-server's multifile does. A number that is missing while a
// higher one exists is an error, not the end of the disk.
func Multifile(path string, open func(path string) (block.Device, error)) (block.Device, error) {
	paths, err := multifilePaths(path)
	if err != nil {
		return nil, fmt.Errorf("multifile: %w", err)
	}
	var devs []block.Device
	for _, p := range paths {
		dev, err := open(p)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("multifile: %w", err), closeAll(devs))
		}
		devs = append(devs, dev)
	}
	dev, err := Concat(devs, ConcatOptions{})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("multifile: %w", err), closeAll(devs))
	}
	return dev, nil
}

// multifilePaths returns the names of the files in their order.
func multifilePaths(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	prefix := filepath.Base(path) + "."
	found := map[int]bool{}
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), prefix)
		if n, err := strconv.Atoi(digits); ok && err == nil && strconv.Itoa(n) == digits && n >= 0 {
			found[n] = true
		}
	}
	var paths []string
	for n := 0; found[n]; n++ {
		paths = append(paths, path+"."+strconv.Itoa(n))
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("%s.0: %w", path, fs.ErrNotExist)
	case len(paths) < len(found):
		return nil, fmt.Errorf("%s.%d does not exist, but there are files with higher numbers: %w", path, len(paths), fs.ErrNotExist)
	}
	return paths, nil
}

func closeAll(devs []block.Device) error {
	var errs []error
	for _, dev := range devs {
		errs = append(errs, dev.Close())
	}
	return errors.Join(errs...)
}
