package remote

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/replica"
	"github.com/strata-storage/strata/cluster/wire"
)

const (
	codeUnreachable = wire.CodeOwn + iota
	codeEpoch
	codeNoMember
	codeIncarnation
	codeSession
	codeFenced
	codeLost
	codeRevived
	codeTooFew
)

const (
	codeRot = wire.CodeOwn + 32 + iota
	codeUnfinished
	codeVersion
	codeFailed
	codeForeign
	codeDamaged
)

// Errors are the error codes of requests to disks. Both sides need them.
func Errors() []wire.ErrorCode {
	return []wire.ErrorCode{
		{Code: codeUnreachable, Err: replica.ErrUnreachable}, {Code: codeEpoch, Err: replica.ErrEpoch},
		{Code: codeNoMember, Err: replica.ErrNoMember}, {Code: codeIncarnation, Err: replica.ErrIncarnation},
		{Code: codeSession, Err: replica.ErrSession}, {Code: codeFenced, Err: replica.ErrFenced},
		{Code: codeLost, Err: replica.ErrLost}, {Code: codeRevived, Err: replica.ErrRevived},
		{Code: codeTooFew, Err: replica.ErrTooFew},
		{Code: codeFailed, Err: disk.ErrFailed}, {Code: codeRot, Err: disk.ErrRot},
		{Code: codeUnfinished, Err: disk.ErrUnfinished}, {Code: codeVersion, Err: disk.ErrVersion},
		{Code: codeForeign, Err: disk.ErrForeign}, {Code: codeDamaged, Err: disk.ErrDamaged},
	}
}

// The first byte of the head of a reply.
const (
	replyResult byte = iota
	replyBadBlock
)

// answer is what a handler returns for err: what a code alone cannot say is put into
// the reply, except that of a stream.
func answer(r *wire.Request, err error) error {
	if err == nil {
		return nil
	}
	return explain(r, err)
}

// explain is apart because its variables would cost allocations without an error, too.
func explain(r *wire.Request, err error) error {
	var stale *replica.EpochError
	var bad *disk.BlockError
	switch {
	case errors.As(err, &stale):
		return wire.WithDetail(err, uint64(stale.Known))
	case r.MaxItem() == 0 && errors.As(err, &bad) && !errors.Is(err, disk.ErrFailed):
		r.Shorten(0)
		return r.SetHead(appendBlockError(nil, bad))
	}
	return err
}

// What is wrong with a block.
const (
	blockOther byte = iota
	blockRot
	blockUnfinished
)

func appendBlockError(b []byte, e *disk.BlockError) []byte {
	b = appendNumbers(append(b, replyBadBlock), e.Object.Family, e.Object.Index, e.Version)
	b = binary.BigEndian.AppendUint32(b, e.Block)
	b = binary.BigEndian.AppendUint32(b, e.Sum)
	switch {
	case errors.Is(e.Err, disk.ErrRot):
		return append(b, blockRot)
	case errors.Is(e.Err, disk.ErrUnfinished):
		return append(b, blockUnfinished)
	}
	text := e.Err.Error()
	return append(append(b, blockOther), text[:min(len(text), 1024)]...)
}

func (r *reader) blockError() error {
	e := &disk.BlockError{}
	e.Object.Family, e.Object.Index, e.Version = r.u64(), r.u64(), r.u64()
	e.Block, e.Sum = r.u32(), r.u32()
	switch r.u8() {
	case blockRot:
		e.Err = disk.ErrRot
	case blockUnfinished:
		e.Err = disk.ErrUnfinished
	default:
		e.Err = fmt.Errorf("%q: %w", r.p, block.ErrIO)
		r.p = nil
	}
	if err := r.end(); err != nil {
		return err
	}
	return e
}

// failure is what an error of a request to a group means.
func failure(group int, err error) error {
	var remote *wire.RemoteError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wire.ErrTooLarge):
		return err
	case !errors.As(err, &remote):
		return unreachable(err)
	}
	switch remote.Code {
	case wire.CodeTimedOut, wire.CodeCanceled, wire.CodeGoingAway:
		return unreachable(err) // something may have been done
	case codeEpoch:
		return fmt.Errorf("node %s: %w", remote.Node, &replica.EpochError{Group: group, Known: coord.Revision(remote.Detail)})
	}
	return err
}

func unreachable(err error) error { return fmt.Errorf("%w: %w", replica.ErrUnreachable, err) }
