// Package stream carries snapshots as a stream of bytes: what differs between
// two of them, or all that an origin and its snapshots hold. It uses what every
// store can do and no more, so that a stream that one kind of store gave can be
// taken by any other. docs/format-stream.md describes the format.
package stream

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/strata-storage/strata/block"
)

// magic begins a stream, with the version of the format at its end.
const magic = "strata snapshot stream 1\n"

// A record has a head of headSize bytes, in little endian:
//
//	0   4  type
//	4   4  bytes of the payload
//	8   8  offset on the device
//	16  8  length on the device
//	24  4  number of the record, from 0
//	28  4  crc32c of the head up to here and the payload
const headSize = 32

// maxPayload bounds the payload of a record in bytes.
const maxPayload = 1 << 20

// piece is how much data a record has at most, as it is written.
const piece = 256 << 10

// Types of records.
const (
	typeHeader   = "HEAD" // a Header
	typeData     = "DATA" // the payload is what the device holds
	typeZero     = "ZERO" // the device holds zeros
	typeSnapshot = "SNAP" // what the device holds now is a snapshot
	typeFailed   = "FAIL" // the stream is useless; why
	typeEnd      = "END."
)

// The contents of streams.
const (
	Difference = "difference" // between two states of a disk
	Everything = "everything" // a disk with all its snapshots
)

// ErrStream: the bytes are no stream, or not all of one.
var ErrStream error = &meaning{"the stream is damaged", block.ErrIO}

type meaning struct {
	text  string
	errno error
}

func (e *meaning) Error() string { return e.text }
func (e *meaning) Unwrap() error { return e.errno }

// A Header says what a stream is.
type Header struct {
	// Content is Difference or Everything.
	Content string `json:"content"`
	// Size of the device in bytes.
	Size int64 `json:"size"`
	// From and To are the names of the snapshots of a difference. It is from zeros
	// if From is empty.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// FromID and ToID name what these snapshots hold, wherever they are, if whoever
	// wrote the stream has such names.
	FromID string `json:"from_id,omitempty"`
	ToID   string `json:"to_id,omitempty"`
}

func (h *Header) is(content string) error {
	if h.Content != content {
		return fmt.Errorf("it has the content %q, expected %q: %w", h.Content, content, block.ErrInvalid)
	}
	return nil
}

// A Mark is the payload of a record of a snapshot.
type Mark struct {
	Name     string    `json:"name"`
	Created  time.Time `json:"created,omitzero"`
	Priority int       `json:"priority,omitempty"`
}

type record struct {
	typ     string
	off, n  int64
	payload []byte
}

var crc = crc32.MakeTable(crc32.Castagnoli)

// A writer writes records.
type writer struct {
	w   *bufio.Writer
	seq uint32
}

func newWriter(w io.Writer) (*writer, error) {
	x := &writer{w: bufio.NewWriterSize(w, piece+headSize)}
	_, err := x.w.WriteString(magic)
	return x, err
}

func (x *writer) put(r record) error {
	var head [headSize]byte
	copy(head[:4], r.typ)
	le := binary.LittleEndian
	le.PutUint32(head[4:], uint32(len(r.payload)))
	le.PutUint64(head[8:], uint64(r.off))
	le.PutUint64(head[16:], uint64(r.n))
	le.PutUint32(head[24:], x.seq)
	le.PutUint32(head[28:], crc32.Update(crc32.Checksum(head[:28], crc), crc, r.payload))
	x.seq++
	if _, err := x.w.Write(head[:]); err != nil {
		return err
	}
	_, err := x.w.Write(r.payload)
	return err
}

func (x *writer) putJSON(typ string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return x.put(record{typ: typ, payload: text})
}

// end ends the stream: well, or with the reason why it is useless.
func (x *writer) end(why error) error {
	last := record{typ: typeEnd}
	if why != nil {
		text := why.Error()
		last = record{typ: typeFailed, payload: []byte(text[:min(len(text), maxPayload)])}
	}
	return errors.Join(why, x.put(last), x.w.Flush())
}

// A reader reads records.
type reader struct {
	r   *bufio.Reader
	seq uint32
	buf []byte
}

func newReader(r io.Reader) (*reader, error) {
	x := &reader{r: bufio.NewReaderSize(r, piece+headSize)}
	var start [len(magic)]byte
	if _, err := io.ReadFull(x.r, start[:]); err != nil {
		return nil, early(err)
	}
	if string(start[:]) != magic {
		return nil, fmt.Errorf("it begins with %q, expected %q: %w", start, magic, ErrStream)
	}
	return x, nil
}

// early is the error of a stream that does not go on.
func early(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("it ends early: %w", ErrStream)
	}
	return fmt.Errorf("reading the stream: %w", err)
}

// next returns the next record, whose payload is valid until the one after it.
func (x *reader) next() (record, error) {
	var head [headSize]byte
	if _, err := io.ReadFull(x.r, head[:]); err != nil {
		return record{}, early(err)
	}
	le := binary.LittleEndian
	n := le.Uint32(head[4:])
	r := record{typ: string(head[:4]), off: int64(le.Uint64(head[8:])), n: int64(le.Uint64(head[16:]))}
	if n > maxPayload {
		return r, fmt.Errorf("record %d has %d bytes, at most %d are allowed: %w", x.seq, n, maxPayload, ErrStream)
	}
	if cap(x.buf) < int(n) {
		x.buf = make([]byte, n)
	}
	r.payload = x.buf[:n]
	if _, err := io.ReadFull(x.r, r.payload); err != nil {
		return r, early(err)
	}
	if sum := crc32.Update(crc32.Checksum(head[:28], crc), crc, r.payload); sum != le.Uint32(head[28:]) {
		return r, fmt.Errorf("record %d has the checksum %08x, expected %08x: %w", x.seq, sum, le.Uint32(head[28:]), ErrStream)
	}
	if got := le.Uint32(head[24:]); got != x.seq {
		return r, fmt.Errorf("record %d is in the place of record %d: %w", got, x.seq, ErrStream)
	}
	x.seq++
	if r.typ == typeFailed {
		return r, fmt.Errorf("whoever wrote it failed: %s: %w", r.payload, ErrStream)
	}
	return r, nil
}

// header reads the first record.
func (x *reader) header() (Header, error) {
	var h Header
	r, err := x.next()
	switch {
	case err != nil:
		return h, err
	case r.typ != typeHeader:
		return h, fmt.Errorf("the first record is of the type %q, expected %q: %w", r.typ, typeHeader, ErrStream)
	}
	if err := json.Unmarshal(r.payload, &h); err != nil {
		return h, fmt.Errorf("its header: %w: %w", err, ErrStream)
	}
	return h, nil
}
