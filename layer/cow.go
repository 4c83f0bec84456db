package layer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/cow"
	"github.com/strata-storage/strata/source"
)

// CowOptions are the options of Cow.
type CowOptions struct {
	_        struct{} `doc:"Copy-on-write: keeps what is written in a difference file and never writes to the device." long:"The difference file is made if there is none. It holds what was written for good, survives crashes, and takes as much room as there are changes. It belongs to this device with this content: a device that was written to otherwise is refused. Any number of cows may be over one device."`
	Diff     string   `name:"diff" arg:"1" required:"true" unit:"path" doc:"The difference file."`
	Chunk    int64    `name:"chunk" unit:"bytes" default:"4K" doc:"The unit of the difference file, a power of two from 512 bytes to 64K; a file that exists must have it. What fills a unit in part is copied once."`
	ReadOnly bool     `name:"read_only" doc:"Show the device with its changes and allow no more of them; several readers may share the file, which must exist."`
}

// Cow returns dev as changed by a difference file, in which all further changes
// end up as well. It holds the lock of the file as source.File does.
//
// A flush makes the data durable and then, if chunks were written for the
// first time since the last one, the map that tells about them: two flushes of
// the file instead of one. If the process is killed, what was acknowledged is
// there all the same, flushed or not, if the difference file is on a local file
// system that stays mounted. Close keeps everything.
func Cow(dev block.Device, o CowOptions) (block.Device, error) {
	c, err := openCow(context.Background(), dev, o)
	if err != nil {
		return nil, fmt.Errorf("cow: %w", err)
	}
	return c, nil
}

func openCow(ctx context.Context, dev block.Device, o CowOptions) (block.Device, error) {
	if o.Diff == "" {
		return nil, fmt.Errorf("diff is empty, must be a path: %w", block.ErrInvalid)
	}
	diff, err := source.File(ctx, source.FileOptions{Path: o.Diff, ReadOnly: o.ReadOnly})
	if errors.Is(err, fs.ErrNotExist) && !o.ReadOnly {
		if err := createDiff(ctx, dev, o); err != nil {
			return nil, err
		}
		diff, err = source.File(ctx, source.FileOptions{Path: o.Diff})
	}
	if err != nil {
		return nil, err
	}
	c, err := openDiff(ctx, dev, diff, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Diff, errors.Join(err, diff.Close()))
	}
	return c, nil
}

func openDiff(ctx context.Context, dev, diff block.Device, o CowOptions) (block.Device, error) {
	if o.Chunk != 0 {
		s, err := cow.Stat(ctx, diff)
		if err != nil {
			return nil, err
		}
		if s.Chunk != o.Chunk {
			return nil, fmt.Errorf("chunk is %d, the difference file has chunks of %d bytes: %w", o.Chunk, s.Chunk, block.ErrInvalid)
		}
	}
	return cow.Open(ctx, dev, diff, o.ReadOnly)
}

// createDiff makes an empty difference file. It comes into being whole, under
// its name only when it is complete, and replaces nothing.
func createDiff(ctx context.Context, dev block.Device, o CowOptions) error {
	if o.Chunk == 0 {
		o.Chunk = max(cow.DefaultChunk, int64(dev.Info().MinBlock))
	}
	size, err := cow.FileSize(dev.Info().Size, o.Chunk)
	if err != nil {
		return err
	}
	dir, name := filepath.Split(o.Diff)
	work, err := os.MkdirTemp(filepath.Clean(dir+"."), "."+name+".new-")
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		return fmt.Errorf("create %s: %w", o.Diff, failed.Err)
	} else if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	made := filepath.Join(work, name)
	diff, err := source.File(ctx, source.FileOptions{Path: made, Create: true, Size: size})
	if err != nil {
		return err
	}
	if err := errors.Join(cow.Format(ctx, dev, diff, o.Chunk), diff.Close()); err != nil {
		return err
	}
	if err := os.Link(made, o.Diff); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(filepath.Clean(dir + "."))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
