package cow

import (
	"context"
	"encoding/hex"

	"github.com/strata-storage/strata/block"
)

// Stats describe a difference file.
type Stats struct {
	Version Version `json:"version"`
	// UUID is made when the file is.
	UUID string `json:"uuid"`
	// Size of the base and of a chunk, in bytes.
	Size  int64 `json:"size"`
	Chunk int64 `json:"chunk"`
	// Data and Zero are the bytes of the base that the file replaces, by
	// data and by zeros.
	Data int64 `json:"data"`
	Zero int64 `json:"zero"`
	// Map is the size in bytes of both copies of the map, most of it holes.
	Map int64 `json:"map"`
	// InUse: the file is being written to, or its last user did not close
	// it.
	InUse bool `json:"in_use"`
	// Merging: a commit was begun and has not ended.
	Merging bool `json:"merging"`
	// Commits is how often the file was emptied by a commit.
	Commits uint64 `json:"commits"`
	// Base is the fingerprint of the base.
	Base string `json:"base"`
}

// Stat describes the difference file in diff. It reads the headers and the map
// and writes nothing.
func Stat(ctx context.Context, diff block.Device) (Stats, error) {
	s, err := openGood(ctx, diff, true)
	if err != nil {
		return Stats{}, err
	}
	return s.stats(), nil
}

func (s *store) stats() Stats {
	inData, inZero := s.states.count()
	return Stats{
		Version: s.head.version,
		UUID:    hex.EncodeToString(s.head.uuid[:]),
		Size:    s.head.size,
		Chunk:   s.head.chunk,
		Data:    min(inData*s.head.chunk, s.head.size),
		Zero:    min(inZero*s.head.chunk, s.head.size),
		Map:     2 * s.layout.pages * slotSize,
		InUse:   s.head.inUse,
		Merging: s.head.merging,
		Commits: s.head.epoch,
		Base:    s.head.base.String(),
	}
}

// maxProblems bounds what Check returns.
const maxProblems = 1000

// Check looks at all of a difference file but its data, which have no
// checksums, and returns what is wrong with it: nothing if it is sound. What
// the loss of power may leave is sound. It writes nothing. The error is about
// reading the file.
func Check(ctx context.Context, diff block.Device) (problems []error, err error) {
	report := func(err error) {
		if len(problems) < maxProblems {
			problems = append(problems, err)
		}
	}
	if _, err = open(ctx, diff, report); err != nil && isDamage(err) {
		report(err)
		err = nil
	}
	return problems, err
}
