package disk

import "encoding/binary"

// The first byte of a key is the table it belongs to.
const (
	tableMeta    = 'm' // what there is one of
	tableObject  = 'o' // object -> header
	tablePiece   = 'p' // object, piece, version from the youngest on -> record
	tableDirty   = 'd' // object -> mark
	tableTally   = 't' // family, version, index -> tally
	tableSegment = 's' // segment -> bits
)

// Keys of tableMeta.
var (
	keySuper = []byte("msuper")
	keyRun   = []byte("mrun")
)

const (
	objectKeyLen = 1 + 3*8
	pieceKeyLen  = objectKeyLen + 2 + 8
	tallyKeyLen  = 1 + 3*8
)

// Numbers in keys are big-endian, so that keys are in their order.
func put64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }
func get64(b []byte) uint64           { return binary.BigEndian.Uint64(b) }

// objectKey appends the key of an object in a table.
func objectKey(b []byte, table byte, o Object) []byte {
	return put64(put64(put64(append(b, table), o.Hash()), o.Family), o.Index)
}

// parseObjectKey is the inverse of objectKey.
func parseObjectKey(k []byte, table byte) (Object, error) {
	if len(k) != objectKeyLen || k[0] != table {
		return Object{}, damaged("key %x, expected %d bytes of table %c", k, objectKeyLen, table)
	}
	o := Object{get64(k[9:]), get64(k[17:])}
	if o.Hash() != get64(k[1:]) {
		return Object{}, damaged("key %x has another hash than object %v", k, o)
	}
	return o, nil
}

// hashKey is the smallest key of objects with this hash.
func hashKey(table byte, hash uint64) []byte { return put64([]byte{table}, hash) }

// pieceKey appends the key of a record.
func pieceKey(b []byte, o Object, piece uint16, version uint64) []byte {
	b = objectKey(b, tablePiece, o)
	return put64(binary.BigEndian.AppendUint16(b, piece), ^version)
}

// parsePieceKey is the inverse of pieceKey.
func parsePieceKey(k []byte) (o Object, piece uint16, version uint64, err error) {
	if len(k) != pieceKeyLen || k[0] != tablePiece {
		return o, 0, 0, damaged("key %x, expected %d bytes of table %c", k, pieceKeyLen, tablePiece)
	}
	o = Object{get64(k[9:]), get64(k[17:])}
	piece, version = binary.BigEndian.Uint16(k[25:]), ^get64(k[27:])
	switch {
	case o.Hash() != get64(k[1:]):
		return o, 0, 0, damaged("key %x has another hash than object %v", k, o)
	case piece >= maxPieces:
		return o, 0, 0, damaged("key %x has piece %d of object %v, expected less than %d", k, piece, o, maxPieces)
	case version == 0:
		return o, 0, 0, damaged("key %x has no version", k)
	}
	return o, piece, version, nil
}

// tallyKey appends the key of the tally of a version of an object.
func tallyKey(b []byte, o Object, version uint64) []byte {
	return put64(put64(put64(append(b, tableTally), o.Family), version), o.Index)
}

// parseTallyKey is the inverse of tallyKey.
func parseTallyKey(k []byte) (o Object, version uint64, err error) {
	if len(k) != tallyKeyLen || k[0] != tableTally {
		return o, 0, damaged("key %x, expected %d bytes of table %c", k, tallyKeyLen, tableTally)
	}
	o, version = Object{get64(k[1:]), get64(k[17:])}, get64(k[9:])
	if version == 0 {
		return o, 0, damaged("key %x has no version", k)
	}
	return o, version, nil
}

// segmentKey appends the key of the bits of a segment.
func segmentKey(b []byte, segment uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, tableSegment), segment)
}

// parseSegmentKey is the inverse of segmentKey.
func parseSegmentKey(k []byte) (segment uint32, err error) {
	if len(k) != 5 || k[0] != tableSegment {
		return 0, damaged("key %x, expected 5 bytes of table %c", k, tableSegment)
	}
	return binary.BigEndian.Uint32(k[1:]), nil
}

// after is the smallest key that does not begin with k.
func after(k []byte) []byte {
	end := append([]byte(nil), k...)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
