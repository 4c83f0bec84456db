package home

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"strings"
)

// Format is the version of the directory that this program makes.
const Format = 1

// maxRecord bounds the file node in bytes.
const maxRecord = 1 << 20

// The errors of this package.
var (
	// ErrInUse: another process uses the directory.
	ErrInUse = errors.New("the data directory is in use by another process")
	// ErrForeign: the directory is not that of a node, and not empty.
	ErrForeign = errors.New("not a data directory")
	// ErrHalf: parts of a node are there, and not what says which node it is.
	ErrHalf = errors.New("the data directory is not whole")
	// ErrNewer: a newer program has made it.
	ErrNewer = errors.New("the data directory was made by a newer version of this program")
	// ErrDamaged: what says which node it is cannot be understood.
	ErrDamaged = errors.New("the data directory is damaged")
	// ErrOther: it is that of another cluster, or of another node.
	ErrOther = errors.New("the data directory is another one")
)

// A Record says what a directory is.
type Record struct {
	// Cluster is the name of the cluster, 32 hexadecimal digits, and Node that of
	// the node, 16.
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	// Starts is how often the node was started, or has noted that it goes on: a directory
	// in which it is less than the cluster knows is an older copy.
	Starts int64 `json:"starts,omitempty"`
	// Agreed are the URLs by which the node reaches what the cluster agrees on, as it
	// has heard last. A node that votes has a way of its own.
	Agreed []string `json:"agreed,omitempty"`
	// Peers are some of the other nodes, who say why if the node finds no way to what the
	// cluster agrees on.
	Peers []Peer `json:"peers,omitempty"`
	// Disks are those of the node.
	Disks []Disk `json:"disks,omitempty"`
	// Adding is the path of a disk that is being made: one that is found there, whose
	// making was cut short, is made anew.
	Adding string `json:"adding,omitempty"`
}

// A Peer is another node, and where it was seen last.
type Peer struct {
	Node    string `json:"node"`
	Address string `json:"address"`
}

// A Disk is one disk of the node.
type Disk struct {
	// ID is what the cluster and its superblock call it.
	ID string `json:"id"`
	// Number is that of its directory.
	Number int `json:"number"`
	// Path is where its blocks are, a file, a block device, or a directory with those
	// and the metadata. Empty is the directory of that number.
	Path string `json:"path,omitempty"`
}

func (r Record) check() error {
	if err := checkHex("the cluster", r.Cluster, 32); err != nil {
		return err
	}
	if err := checkHex("the node", r.Node, 16); err != nil {
		return err
	}
	for _, u := range r.Agreed {
		if u == "" || len(u) > 1024 {
			return fmt.Errorf("a URL of %d bytes, expected 1 to 1024", len(u))
		}
	}
	for _, p := range r.Peers {
		if p.Address == "" || len(p.Address) > 1024 {
			return fmt.Errorf("an address of %d bytes of node %.80q, expected 1 to 1024", len(p.Address), p.Node)
		}
		if err := checkHex("another node", p.Node, 16); err != nil {
			return err
		}
	}
	ids, numbers := map[string]bool{}, map[int]bool{}
	for _, d := range append(r.Disks[:len(r.Disks):len(r.Disks)], Disk{ID: "adding", Number: math.MaxInt, Path: r.Adding}) {
		if d.Path != "" && (!filepath.IsAbs(d.Path) || len(d.Path) > 4096) {
			return fmt.Errorf("the path %.80q of disk %.80q, expected one that begins with / and has at most 4096 bytes", d.Path, d.ID)
		}
		if d.ID == "" || len(d.ID) > 64 || d.Number < 0 || ids[d.ID] || numbers[d.Number] {
			return fmt.Errorf("disk %.80q with the number %d, expected a name and a number of its own", d.ID, d.Number)
		}
		ids[d.ID], numbers[d.Number] = true, true
	}
	return nil
}

func checkHex(what, s string, n int) error {
	if _, err := hex.DecodeString(s); err != nil || len(s) != n || strings.ToLower(s) != s {
		return fmt.Errorf("%s is %.80q, expected %d hexadecimal digits", what, s, n)
	}
	return nil
}

const magic = "strata node "

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode returns the content of the file node.
func (r Record) encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, err
	}
	text = append(text, '\n')
	return append(fmt.Appendf(nil, "%s%d %08x\n", magic, Format, crc32.Checksum(text, castagnoli)), text...), nil
}

// parse is the reverse of encode.
func parse(b []byte) (r Record, err error) {
	line, text, ok := bytes.Cut(b, []byte{'\n'})
	version, sum, ok2 := strings.Cut(strings.TrimPrefix(string(line), magic), " ")
	if !ok || !ok2 || !bytes.HasPrefix(line, []byte(magic)) {
		return r, fmt.Errorf("the first line is %.80q, expected %q and a version: %w", line, strings.TrimSpace(magic), ErrDamaged)
	}
	n, err := strconv.Atoi(version)
	switch {
	case err != nil || n < 1:
		return r, fmt.Errorf("the version is %.80q, expected a number from 1 on: %w", version, ErrDamaged)
	case n > Format:
		return r, fmt.Errorf("it has version %d, this program knows up to %d: %w", n, Format, ErrNewer)
	}
	if want := fmt.Sprintf("%08x", crc32.Checksum(text, castagnoli)); sum != want {
		return r, fmt.Errorf("the checksum is %.80q, expected %s: %w", sum, want, ErrDamaged)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err = d.Decode(&r); err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("something is behind the object")
		}
	}
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	return r, nil
}
