package lock

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The state of a server is a text:
//
//	strata-locks 1
//	lease 5s
//	held 17 000102030405060708090a0b0c0d0e0f "vm"
//	free 3 00000000000000000000000000000000 "db"
//	crc32c 89abcdef
//
// with a line for each lock that was ever held: its generation, who got that,
// and its name. Held means that the owner may hold it; the lease is how long a
// server that starts must wait for it. The checksum is that of all lines before.

const (
	stateVersion = "strata-locks 1\n"
	// maxState bounds the file, in bytes.
	maxState = 8 << 20
)

// encodeState makes the text. At the end of a server it is known which locks are
// free.
func (t *table) encodeState(end bool) []byte {
	b := []byte(stateVersion)
	b = fmt.Appendf(b, "lease %v\n", t.lease)
	for _, name := range slices.Sorted(maps.Keys(t.locks)) {
		e := t.locks[name]
		if e.generation == 0 {
			continue
		}
		word := "free"
		if e.held || e.stored && !end && e.owner != (partyID{}) {
			word = "held"
		}
		b = fmt.Appendf(b, "%s %d %x %q\n", word, e.generation, e.owner, name)
	}
	return fmt.Appendf(b, "crc32c %08x\n", crc32.Checksum(b, castagnoli))
}

// decodeState fills the table. Locks that may be held are, until the lease with
// which they were given has passed.
func (t *table) decodeState(b []byte, now time.Duration) error {
	sum := bytes.LastIndex(b, []byte("crc32c "))
	switch {
	case len(b) == 0:
		return nil
	case !bytes.HasPrefix(b, []byte("strata-locks ")):
		return errors.New("it is not the state of a lock server")
	case sum < 0 || string(b[sum:]) != fmt.Sprintf("crc32c %08x\n", crc32.Checksum(b[:sum], castagnoli)):
		return errors.New("it is damaged")
	case !bytes.HasPrefix(b, []byte(stateVersion)):
		return fmt.Errorf("it has another version than %q", strings.TrimSpace(stateVersion))
	}
	lines := strings.Split(strings.TrimSuffix(string(b[len(stateVersion):sum]), "\n"), "\n")
	word, rest, _ := strings.Cut(lines[0], " ")
	lease, err := time.ParseDuration(rest)
	if word != "lease" || err != nil || lease < 0 || lease > MaxLease {
		return fmt.Errorf("%q is not a lease", lines[0])
	}
	for _, line := range lines[1:] {
		name, e, err := decodeEntry(line)
		if err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		if t.locks[name] != nil {
			return fmt.Errorf("%q is there twice", name)
		}
		e.until = now + max(lease, t.lease)
		t.locks[name] = e
	}
	return nil
}

func decodeEntry(line string) (name string, e *entry, err error) {
	part := strings.SplitN(line, " ", 4)
	if len(part) != 4 || part[0] != "held" && part[0] != "free" {
		return "", nil, errors.New("not a lock")
	}
	e = &entry{held: part[0] == "held", members: map[partyID]*member{}}
	e.stored = e.held
	e.generation, err = strconv.ParseUint(part[1], 10, 64)
	if err != nil || e.generation == 0 || e.generation > 2*maxGeneration {
		return "", nil, errors.New("not a generation")
	}
	if n, err := hex.Decode(e.owner[:], []byte(part[2])[:min(len(part[2]), 32)]); err != nil || n != len(e.owner) || len(part[2]) != 32 {
		return "", nil, errors.New("not an owner")
	}
	name, err = strconv.Unquote(part[3])
	if err != nil || name == "" || len(name) > MaxName {
		return "", nil, errors.New("not a name")
	}
	return name, e, nil
}

// A stateFile is where a server keeps its state. It is locked, so that there is
// no second server with the same state.
type stateFile struct {
	path string
	f    *os.File
}

// openState opens or makes the file, and returns what is in it.
func openState(path string) (*stateFile, []byte, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, nil, err
		}
		b, again, err := readState(f, path)
		if err == nil && !again {
			return &stateFile{path, f}, b, nil
		}
		f.Close()
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
	}
}

// readState locks the file and reads it. It must be done again if the file was
// replaced meanwhile.
func readState(f *os.File, path string) (b []byte, again bool, err error) {
	switch got, err := lockBytes(f, 0, 1); {
	case err != nil:
		return nil, false, err
	case !got:
		return nil, false, errors.New("another lock server uses it")
	}
	mine, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if at, err := os.Stat(path); err != nil || !os.SameFile(mine, at) {
		return nil, true, nil
	}
	if !mine.Mode().IsRegular() {
		return nil, false, errors.New("not a regular file")
	}
	b, err = io.ReadAll(io.LimitReader(f, maxState+1))
	if err == nil && len(b) > maxState {
		err = fmt.Errorf("it has more than %d bytes", maxState)
	}
	return b, false, err
}

// save replaces the file, durably.
func (s *stateFile) save(b []byte) error {
	temporary := s.path + ".new"
	f, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		var got bool
		if got, err = lockBytes(f, 0, 1); err == nil && !got {
			err = errors.New("another lock server uses it")
		}
	}
	if err == nil {
		err = os.Rename(temporary, s.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(s.path))
	}
	if err != nil {
		f.Close()
		return err
	}
	s.f.Close()
	s.f = f
	return nil
}

func (s *stateFile) close() { s.f.Close() }
