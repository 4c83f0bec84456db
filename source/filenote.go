package source

import (
	"errors"
	"fmt"

	"github.com/strata-storage/strata/block"
	"golang.org/x/sys/unix"
)

// notePrefix begins the names of extended attributes that hold notes.
const notePrefix = "user.strata."

// maxNote bounds the length of a note that is read, in bytes.
const maxNote = 4096

var _ block.Noter = (*file)(nil)

// Note returns an extended attribute of the file. Block devices have none.
func (d *file) Note(key string) (string, error) {
	if err := d.gate.Enter(); err != nil {
		return "", err
	}
	defer d.gate.Leave()
	if d.device {
		return "", d.noNotes(block.ErrNotSupported)
	}
	p := make([]byte, maxNote)
	var n int
	err := again(func() (err error) {
		n, err = unix.Fgetxattr(d.fd, notePrefix+key, p)
		return err
	})
	switch {
	case errors.Is(err, unix.ENODATA):
		return "", nil
	case err != nil:
		return "", d.noNotes(err)
	}
	return string(p[:n]), nil
}

// SetNote sets an extended attribute of the file, durably.
func (d *file) SetNote(key, text string) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	switch {
	case d.device:
		return d.noNotes(block.ErrNotSupported)
	case d.info.ReadOnly:
		return block.ErrReadOnly
	}
	err := again(func() error {
		if text == "" {
			return unix.Fremovexattr(d.fd, notePrefix+key)
		}
		return unix.Fsetxattr(d.fd, notePrefix+key, []byte(text), 0)
	})
	switch {
	case text == "" && errors.Is(err, unix.ENODATA):
		return nil
	case err != nil:
		return d.noNotes(err)
	}
	// The whole inode: fdatasync may leave attributes out.
	return wrap(d.path, "sync", again(func() error { return unix.Fsync(d.fd) }))
}

// noNotes tells of the file that it can keep no note.
func (d *file) noNotes(err error) error {
	return fmt.Errorf("an extended attribute of %s: %w", d.path, err)
}
