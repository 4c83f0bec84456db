package lock

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A record is the content of a lock file: who got which generation last. It is
// all zeros for a new lock.
//
//	 0  magic "stratalk"
//	 8  version, 1
//	16  generation
//	24  owner, 16 bytes
//	40  zeros
//	60  CRC-32C of the bytes before
//
// Numbers are big endian, of 8 bytes, the checksum of 4.
type record struct {
	generation uint64
	owner      partyID
}

const (
	recordMagic   = "stratalk"
	recordVersion = 1
	recordSize    = 64
	recordSum     = recordSize - 4
)

// The bytes of the file that are locked.
const (
	holdByte = 0
	waitByte = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (r record) encode() []byte {
	b := make([]byte, 0, recordSize)
	b = append(b, recordMagic...)
	b = binary.BigEndian.AppendUint64(b, recordVersion)
	b = binary.BigEndian.AppendUint64(b, r.generation)
	b = append(b, r.owner[:]...)
	b = append(b, make([]byte, recordSum-len(b))...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeRecord reads the content of a lock file, which may be longer than b.
func decodeRecord(b []byte) (record, error) {
	switch {
	case len(b) == 0:
		return record{}, nil
	case !bytes.HasPrefix(b, []byte(recordMagic)):
		return record{}, errors.New("it has another content than a lock; choose another path")
	case len(b) != recordSize || crc32.Checksum(b[:recordSum], castagnoli) != binary.BigEndian.Uint32(b[recordSum:]):
		return record{}, errors.New("the lock is damaged; remove it when nobody uses it")
	}
	if v := binary.BigEndian.Uint64(b[8:]); v != recordVersion {
		return record{}, fmt.Errorf("it has version %d, expected %d", v, recordVersion)
	}
	r := record{binary.BigEndian.Uint64(b[16:]), partyID(b[24:40])}
	if r.generation == 0 || r.generation > 2*maxGeneration {
		return record{}, fmt.Errorf("there is no generation %d", r.generation)
	}
	return r, nil
}
