package vm

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	chunk = 4 << 10
	// inFlight is how many requests are under way, and the number of writes
	// between two flushes.
	inFlight = 32
	piece    = 1 << 20 // of what is written one after the other
)

// A client makes requests to a block device, past the page cache.
type client struct {
	f      *os.File
	mapped []byte
	data   []byte // piece bytes, aligned
	into   [][]byte
}

func openClient(path string) (*client, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) {
		f, err = os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	}
	if err != nil {
		return nil, err
	}
	p, err := unix.Mmap(-1, 0, piece+inFlight*chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		f.Close()
		return nil, err
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range piece {
		p[i] = byte(random.Uint32())
	}
	c := &client{f: f, mapped: p, data: p[:piece:piece]}
	for i := range inFlight {
		c.into = append(c.into, p[piece+i*chunk:][:chunk:chunk])
	}
	return c, nil
}

func (c *client) close() error {
	return errors.Join(unix.Munmap(c.mapped), c.f.Close())
}

// fill writes n bytes from the beginning, and flushes.
func (c *client) fill(n int64) error {
	for off := int64(0); off < n; off += piece {
		if _, err := c.f.WriteAt(c.data[:min(piece, n-off)], off); err != nil {
			return err
		}
	}
	return c.flush()
}

func (c *client) flush() error { return c.f.Sync() }

func (c *client) one(write bool, lane int, off int64) (err error) {
	if write {
		_, err = c.f.WriteAt(c.data[lane*chunk:][:chunk], off)
	} else {
		_, err = c.f.ReadAt(c.into[lane], off)
	}
	return err
}

// lanes calls f on so many lanes at the same time.
func lanes(n int, f func(lane int) error) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for lane := range n {
		all.Go(func() { errs[lane] = f(lane) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// random makes requests to chunks of the first so many for a time, and returns
// their number for a second.
func (c *client) random(write bool, chunks int64, length time.Duration) (float64, error) {
	counts := make([]int, inFlight)
	start := time.Now()
	err := lanes(inFlight, func(lane int) error {
		r := rand.New(rand.NewPCG(uint64(lane), 3))
		for time.Since(start) < length {
			if err := c.one(write, lane, r.Int64N(chunks)*chunk); err != nil {
				return err
			}
			counts[lane]++
		}
		return nil
	})
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / time.Since(start).Seconds(), err
}

// writes writes these chunks, with a flush after each flushEvery of them or none
// if it is 0, and returns their number for a second.
func (c *client) writes(order []int, flushEvery int) (float64, error) {
	start := time.Now()
	for rest := order; len(rest) > 0; {
		batch := rest
		if flushEvery > 0 {
			batch = rest[:min(flushEvery, len(rest))]
		}
		rest = rest[len(batch):]
		err := lanes(min(inFlight, len(batch)), func(lane int) error {
			for i := lane; i < len(batch); i += inFlight {
				if err := c.one(true, lane, int64(batch[i])*chunk); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil && flushEvery > 0 {
			err = c.flush()
		}
		if err != nil {
			return 0, err
		}
	}
	return float64(len(order)) / time.Since(start).Seconds(), nil
}

// on calls f with a client of a device.
func on(path string, f func(*client) error) error {
	c, err := openClient(path)
	if err != nil {
		return err
	}
	if err := errors.Join(f(c), c.close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
