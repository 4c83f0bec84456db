package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxRecord bounds the value of an entry in bytes.
const MaxRecord = 64 << 10

// A Record is the value of an entry: a Pool, Next, Node, Run, Disk, Group, Name,
// Volume, Version, Snapshot, Attachment, Deletion or Health.
type Record interface {
	// check says what is wrong with the record as the value of that key.
	check(k Key) error
}

// Encode returns the value of the entry of key, and an error that says what is
// wrong with the record.
func Encode(key string, r Record) ([]byte, error) {
	k, err := ParseKey(key)
	if err == nil {
		err = r.check(k)
	}
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", key, err)
	}
	value, err := json.Marshal(r)
	if err == nil && len(value) > MaxRecord {
		err = fmt.Errorf("%d bytes, at most %d are allowed: %w", len(value), MaxRecord, ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", key, err)
	}
	return value, nil
}

// Decode returns the record that is the value of the entry of key. The error says
// what is wrong: ErrNewer if it has fields that this program does not know.
func Decode[T Record](key string, value []byte) (T, error) {
	k, err := ParseKey(key)
	var r T
	if err == nil {
		r, err = decode[T](k, value)
	}
	if err != nil {
		var none T
		return none, fmt.Errorf("record %s: %w", key, err)
	}
	return r, nil
}

func decode[T Record](k Key, value []byte) (r T, err error) {
	if len(value) > MaxRecord {
		return r, fmt.Errorf("%d bytes, at most %d are allowed: %w", len(value), MaxRecord, ErrInvalid)
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		// The package has no error of its own for that.
		if field, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); unknown {
			return r, fmt.Errorf("the field %.100s: %w", field, ErrNewer)
		}
		return r, fmt.Errorf("%.200v: %w", err, ErrInvalid)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return r, fmt.Errorf("there is more behind the JSON: %w", ErrInvalid)
	}
	return r, r.check(k)
}
