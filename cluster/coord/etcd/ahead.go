package etcd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// usualAhead is how much room is taken for the database before it needs it, but never more
// than one part in aheadPart of the file system. With the log, of which etcd has up to
// 128 MB ahead, that lasts for long after others have filled the file system: in a
// database what was deleted is used again.
const (
	usualAhead = 16 << 20
	aheadPart  = 32
)

// keepSize is FALLOC_FL_KEEP_SIZE of Linux.
const keepSize = 1

// takeRoom takes room for what the database will need, as etcd ends the process when there
// is none. It is no more than an attempt.
func (s *Server) takeRoom() {
	path := filepath.Join(s.dir, "member", "snap", "db")
	if err := allocate(path, s.ahead); err != nil {
		s.log.Debug("etcd: no room can be taken for the database ahead of time", "error", err)
	}
}

// allocate lets the file system find places for all of a file, which may have holes, and
// for so many bytes more, without changing what the file is.
func allocate(path string, ahead int64) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var fs syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &fs); err != nil {
		return fmt.Errorf("%s: statfs: %w", path, err)
	}
	ahead = min(ahead, int64(fs.Blocks)*int64(fs.Bsize)/aheadPart)
	if err := syscall.Fallocate(int(f.Fd()), keepSize, 0, info.Size()+ahead); err != nil {
		return fmt.Errorf("%s: fallocate: %w", path, err)
	}
	return nil
}
