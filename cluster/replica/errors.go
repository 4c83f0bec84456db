package replica

import (
	"errors"
	"fmt"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
)

// The errors of this package.
var (
	// ErrUnreachable: a disk has not answered. What was asked may be done or not,
	// or be done later.
	ErrUnreachable = errors.New("the disk does not answer")
	// ErrEpoch: the disk knows a later record of the group. See EpochError.
	ErrEpoch = errors.New("the record of the group is out of date")
	// ErrNoMember: the record does not give the disk the part in the group that the
	// request needs.
	ErrNoMember = errors.New("not a member of the group")
	// ErrIncarnation: the process of the disk was started anew.
	ErrIncarnation = errors.New("the disk has been started anew")
	// ErrSession: the disk has been opened anew by the same attachment, or not at
	// all yet.
	ErrSession = errors.New("not the session of the disk")
	// ErrFenced: another gateway may write the head.
	ErrFenced error = &meaning{"the volume is attached elsewhere", block.ErrIO}
	// ErrLost: all copies of a group were started anew, and writes that had not
	// been flushed are lost. The volume has to be attached anew.
	ErrLost error = &meaning{"all copies were started anew, what was not flushed is lost", block.ErrIO}
	// ErrRevived: all copies of a group were started anew, and nothing is lost. The
	// volume has to be attached anew.
	ErrRevived error = &meaning{"all copies were started anew", block.ErrIO}
	// ErrCut: a disk that is needed serves others, as far as is known, and does not
	// answer this gateway. Another one may be able to attach the volume.
	ErrCut error = &meaning{"a disk that is needed does not answer this gateway", block.ErrIO}
	// ErrTooFew: fewer copies than needed can be reached.
	ErrTooFew error = &meaning{"too few copies can be reached", block.ErrIO}
)

// An EpochError says which epoch a disk knows.
type EpochError struct {
	Group int
	Known coord.Revision
}

// Error names the group and the epoch.
func (e *EpochError) Error() string {
	return fmt.Sprintf("%v: group %d has epoch %d", ErrEpoch, e.Group, e.Known)
}

// Unwrap returns ErrEpoch.
func (e *EpochError) Unwrap() error { return ErrEpoch }

// meaning is an error with a text of its own and the meaning of another.
type meaning struct {
	text string
	is   error
}

func (e *meaning) Error() string { return e.text }
func (e *meaning) Unwrap() error { return e.is }
