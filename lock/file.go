package lock

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// pollWait is how often who waits looks, give or take a half, so that
	// nobody is always the first. pollSlow is the same after patience.
	pollWait = time.Millisecond
	pollSlow = 3 * time.Millisecond
	patience = time.Second
	// pollWatch is how often a holder that wants to be told looks whether
	// somebody waits, and each pollCheck-th time whether the lock is lost.
	pollWatch = 2 * time.Millisecond
	pollCheck = 25
)

// A partyID tells parties apart; it is made at random.
type partyID [16]byte

func newPartyID() (id partyID) {
	rand.Read(id[:])
	return id
}

// File returns the lock that lives in the file at path, for one more party. An
// empty file, or none, is a new lock; anything else that is not a lock file is
// refused. The file must stay: it holds the generation. Parties must not remove
// it; if it is removed or replaced all the same, whoever holds the lock loses
// it.
//
// The lock is free as soon as the process of the holder has ended, however it
// did. Waiting is polling every millisecond, which also works on file systems
// of several hosts if they have locks on byte ranges (NFS 4, GFS2, OCFS2).
func File(path string) (Lock, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	f := &file{path: path, turn: newTurn(), party: newPartyID()}
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

// A file is one party. Its mutex guards its hold too.
type file struct {
	path  string
	turn  turn
	mu    sync.Mutex
	f     *os.File // nil after a loss
	party partyID  // another one after a loss
	last  uint64   // generation of the last hold, 0 if it was lost
	seen  memory
	hold  *fileHold
	shut  bool
}

func (f *file) open() error {
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock file: %w", err)
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		file.Close()
		return errors.Join(fmt.Errorf("lock file %s: not a regular file", f.path), err)
	}
	f.f = file
	_, err = f.read()
	if err != nil {
		f.close()
	}
	return err
}

// close drops the file and with it all locks.
func (f *file) close() {
	if f.f != nil {
		f.f.Close()
		f.f = nil
	}
}

// same says whether the open file is still the one at the path.
func (f *file) same() bool {
	at, err := os.Stat(f.path)
	if err != nil {
		return false
	}
	mine, err := f.f.Stat()
	return err == nil && os.SameFile(at, mine)
}

func (f *file) read() (record, error) {
	var b [recordSize + 1]byte
	n, err := f.f.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		return record{}, fmt.Errorf("lock file: %w", err)
	}
	r, err := decodeRecord(b[:n])
	if err != nil {
		return r, fmt.Errorf("lock file %s: %w", f.path, err)
	}
	return r, nil
}

// write makes the generation this party's, durably.
func (f *file) write(generation uint64) error {
	_, err := f.f.WriteAt(record{generation, f.party}.encode(), 0)
	if err == nil {
		err = f.f.Sync()
	}
	if err == nil && generation == 1 {
		err = syncDir(filepath.Dir(f.path))
	}
	if err != nil {
		f.party = newPartyID() // the file may have the old one
		return fmt.Errorf("lock file: %w", err)
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (f *file) Lock(ctx context.Context) (Hold, error) {
	if err := f.turn.take(ctx); err != nil {
		return nil, err
	}
	queued := false
	begin := time.Now()
	for {
		h, err := f.try(&queued)
		if h != nil {
			return h, nil
		}
		if err == nil {
			err = f.sleep(ctx, time.Since(begin))
		}
		if err != nil {
			f.leave()
			f.turn.give()
			return nil, err
		}
	}
}

// try makes one attempt. Who waits has byte 1, so that there is a next one, whom
// nobody overtakes, and so that it can be seen.
func (f *file) try(queued *bool) (*fileHold, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shut {
		return nil, ErrClosed
	}
	if f.f == nil || !f.same() {
		f.close()
		*queued = false
		if err := f.open(); err != nil {
			return nil, err
		}
	}
	if !*queued {
		switch got, err := lockBytes(f.f, holdByte, 2); {
		case err != nil:
			return nil, f.failed(err)
		case got:
			return f.taken()
		}
		got, err := lockBytes(f.f, waitByte, 1)
		if err != nil || !got {
			return nil, f.failed(err)
		}
		*queued = true
	}
	if got, err := lockBytes(f.f, holdByte, 1); err != nil || !got {
		return nil, f.failed(err)
	}
	return f.taken()
}

func (f *file) failed(err error) error {
	if err != nil {
		return fmt.Errorf("lock file %s: %w", f.path, err)
	}
	return nil
}

// taken makes a hold of the lock on both bytes.
func (f *file) taken() (*fileHold, error) {
	if !f.same() { // another file came to the path before the lock did
		f.close()
		return nil, nil
	}
	r, err := f.read()
	if err != nil {
		return nil, err
	}
	if r.owner != f.party {
		r.generation++
		if err := f.write(r.generation); err != nil {
			return nil, err
		}
	}
	if err := f.seen.forgotten(r.generation); err != nil {
		return nil, f.failed(err)
	}
	if err := unlockBytes(f.f, waitByte, 1); err != nil {
		return nil, f.failed(err)
	}
	f.hold = &fileHold{hold: newHold(&f.mu, r.generation, f.last), file: f}
	return f.hold, nil
}

// leave drops what an attempt that failed has locked.
func (f *file) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f != nil && unlockBytes(f.f, holdByte, 2) != nil {
		f.close()
	}
}

// sleep waits until it is time for another attempt.
func (f *file) sleep(ctx context.Context, waited time.Duration) error {
	d := pollWait
	if waited > patience {
		d = pollSlow
	}
	t := time.NewTimer(d/2 + mathrand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-f.turn.closed:
		return ErrClosed
	}
}

func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shut {
		return ErrClosed
	}
	f.shut = true
	close(f.turn.closed)
	if f.hold != nil {
		f.hold.end(lost("it was closed"))
	}
	f.close()
	return nil
}

type fileHold struct {
	hold
	file    *file
	watched bool
	stop    func() bool // of the next look
	looks   int
}

// end makes the hold invalid, by a loss unless err is errUnlocked.
func (h *fileHold) end(err error) {
	f := h.file
	h.err, f.hold = err, nil
	if h.stop != nil {
		h.stop()
	}
	if err == errUnlocked {
		f.last = h.generation
	} else {
		close(h.lost)
		f.last, f.party = 0, newPartyID()
		f.close()
	}
	f.turn.give()
}

// check looks whether the lock file still says that this party has the lock.
func (h *fileHold) check() error {
	if h.err != nil {
		return h.err
	}
	f := h.file
	why := ""
	if !f.same() {
		why = fmt.Sprintf("the file %s was removed or replaced", f.path)
	} else if r, err := f.read(); err != nil {
		why = err.Error()
	} else if r != (record{h.generation, f.party}) {
		why = fmt.Sprintf("the file %s was changed by somebody else", f.path)
	}
	if why != "" {
		h.end(lost(why))
	}
	return h.err
}

func (h *fileHold) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.check()
}

func (h *fileHold) Unlock() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.check(); err != nil {
		return err
	}
	if unlockBytes(h.file.f, holdByte, 1) != nil {
		h.file.close()
	}
	h.end(errUnlocked)
	return nil
}

func (h *fileHold) Raise(_ context.Context, above uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.check(); err != nil {
		return err
	}
	generation, err := h.above(above)
	if generation == 0 {
		return err
	}
	if err := h.file.write(generation); err != nil {
		h.end(lost(err.Error()))
		return h.err
	}
	h.generation, h.file.seen.greatest = generation, generation
	return nil
}

// look updates what is known of those who wait.
func (h *fileHold) look() {
	if h.err == nil {
		taken, err := lockedBytes(h.file.f, waitByte, 1)
		h.notice(err == nil && taken)
	}
}

func (h *fileHold) Contended() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.look()
	return h.err == nil && h.contended
}

func (h *fileHold) Waiting() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.look()
	h.watch()
	return h.waiting
}

func (h *fileHold) Lost() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watch()
	return h.lost
}

// watch makes somebody look from now on.
func (h *fileHold) watch() {
	if !h.watched {
		h.watched = true
		h.again()
	}
}

func (h *fileHold) again() {
	if h.err != nil {
		return
	}
	h.stop = time.AfterFunc(pollWatch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.looks++; h.looks%pollCheck == 0 {
			h.check()
		}
		h.look()
		h.again()
	}).Stop
}
