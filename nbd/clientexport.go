package nbd

import (
	"fmt"
	"math"
	"slices"

	"github.com/strata-storage/strata/block"
)

// ExportInfo is what a server says about an export.
type ExportInfo struct {
	// Name is the one by which the server calls the export; it may differ
	// from the one asked for, in the case of a default export.
	Name string
	// Description is for people. Often empty.
	Description string
	// Size in bytes; -1 in a list if the server does not tell.
	Size int64
	// Flags are the names of the transmission flags that are set, in the
	// spelling of the protocol text without NBD_FLAG_, such as
	// "SEND_FLUSH".
	Flags []string
	// MinBlock, PreferredBlock and MaxBlock are the block sizes in bytes,
	// all 0 if the server does not tell. A MaxBlock of 1<<32-1 is no limit.
	MinBlock, PreferredBlock, MaxBlock uint32
	// Contexts are the metadata contexts: in a list those that the server
	// offers, on a Client those agreed on.
	Contexts []string

	// Protocol is the handshake: "fixed newstyle", "newstyle" or
	// "oldstyle".
	Protocol string
	// Replies is the form of the replies that was agreed on.
	Replies Replies
	// TLS is the version and cipher suite, empty in clear text.
	TLS string

	flags uint16
}

var flagNames = []struct {
	bit  uint16
	name string
}{
	{flagReadOnly, "READ_ONLY"},
	{flagSendFlush, "SEND_FLUSH"},
	{flagSendFUA, "SEND_FUA"},
	{flagRotational, "ROTATIONAL"},
	{flagSendTrim, "SEND_TRIM"},
	{flagSendWriteZeroes, "SEND_WRITE_ZEROES"},
	{flagSendDF, "SEND_DF"},
	{flagCanMultiConn, "CAN_MULTI_CONN"},
	{flagSendResize, "SEND_RESIZE"},
	{flagSendCache, "SEND_CACHE"},
	{flagSendFastZero, "SEND_FAST_ZERO"},
	{flagBlockStatusPayload, "BLOCK_STATUS_PAYLOAD"},
}

func (e *ExportInfo) setFlags(flags uint16) {
	e.flags = flags
	e.Flags = nil
	for _, f := range flagNames {
		if flags&f.bit != 0 {
			e.Flags = append(e.Flags, f.name)
		}
	}
}

// Has reports whether the transmission flag with that name is set.
func (e ExportInfo) Has(flag string) bool { return slices.Contains(e.Flags, flag) }

func (e *ExportInfo) has(bit uint16) bool { return e.flags&bit != 0 }

func (e *ExportInfo) setSize(size uint64) error {
	if size > math.MaxInt64 {
		return violation("export has %d bytes, more than can be addressed", size)
	}
	e.Size = int64(size)
	return nil
}

func (e *ExportInfo) setBlockSizes(least, preferred, most uint32) error {
	switch {
	case least == 0 || least&(least-1) != 0 || least > 64<<10:
		return violation("minimum block size %d is not a power of two up to 64 KiB", least)
	case preferred&(preferred-1) != 0 || preferred < least:
		return violation("preferred block size %d is not a power of two of at least %d", preferred, least)
	case most < least:
		return violation("maximum block size %d is below the minimum of %d", most, least)
	}
	e.MinBlock, e.PreferredBlock, e.MaxBlock = least, preferred, most
	return nil
}

// check is for what can be judged only when all is known.
func (e *ExportInfo) check() error {
	if m := int64(e.MinBlock); m > 1 && e.Size%m != 0 {
		return violation("export has %d bytes, which is not a multiple of its minimum block size %d", e.Size, m)
	}
	return nil
}

// payload is the longest READ or WRITE.
func (e *ExportInfo) payload() int {
	n := uint32(minMaxPayload)
	if e.MaxBlock != 0 {
		n = min(n, e.MaxBlock)
	}
	if e.MinBlock != 0 {
		n -= n % e.MinBlock
	}
	return int(n)
}

// device is the Info of a Client. The splitting of long requests is the
// client's affair.
func (e *ExportInfo) device() block.Info {
	info := block.Info{
		Size:       e.Size,
		MinBlock:   int(e.MinBlock),
		ReadOnly:   e.has(flagReadOnly),
		Rotational: e.has(flagRotational),
		Trims:      e.has(flagSendTrim),
		FastZeros:  e.has(flagSendFastZero) && e.has(flagSendWriteZeroes),
		NativeFUA:  e.has(flagSendFUA),
	}
	if e.PreferredBlock != 0 {
		info.PreferredBlock = int(max(e.PreferredBlock, 512))
	}
	for _, mc := range e.Contexts {
		if mc == block.Allocation {
			info.CheapExtents = true
		} else {
			info.Contexts = append(info.Contexts, mc)
		}
	}
	return info
}

// A changedError says that another connection leads to another disk.
type changedError struct {
	export, what string
	from, to     any
}

func (e *changedError) Error() string {
	return fmt.Sprintf("nbd: export %q changed %s from %v to %v", e.export, e.what, e.from, e.to)
}

func (e *changedError) Unwrap() error { return block.ErrIO }

// sameDisk says what is wrong with a connection that leads to o.
func (c *Client) sameDisk(o *ExportInfo) error {
	if c.target.Grows && o.Size > c.export.Size {
		larger := *o
		larger.Size = c.export.Size
		o = &larger
	}
	return c.export.sameDisk(o)
}

// sameDisk returns nil if a connection to the export o can go on with what was
// begun on e: it is the same disk as far as can be told and can do no less.
func (e *ExportInfo) sameDisk(o *ExportInfo) error {
	const matters = flagSendFlush | flagSendFUA | flagSendTrim | flagSendWriteZeroes | flagSendFastZero
	lost := e.flags&^o.flags&matters != 0 || !e.has(flagReadOnly) && o.has(flagReadOnly)
	missing := slices.ContainsFunc(e.Contexts, func(mc string) bool { return !slices.Contains(o.Contexts, mc) })
	for _, c := range []struct {
		what     string
		from, to any
		changed  bool
	}{
		{"size", e.Size, o.Size, e.Size != o.Size},
		{"minimum block size", e.MinBlock, o.MinBlock, max(o.MinBlock, 1) > max(e.MinBlock, 1)},
		{"maximum block size", e.payload(), o.payload(), o.payload() < e.payload()},
		{"flags", e.Flags, o.Flags, lost},
		{"metadata contexts", e.Contexts, o.Contexts, missing},
		{"form of replies", e.Replies, o.Replies, o.Replies > e.Replies},
	} {
		if c.changed {
			return &changedError{e.Name, c.what, c.from, c.to}
		}
	}
	return nil
}
