package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/strata-storage/strata/block"
)

// A request is one command of a client.
type request struct {
	t      *transmission
	cmd    command
	flags  uint16
	cookie uint64
	off    uint64
	length uint64
	// payload is how many bytes follow the header.
	payload uint64
	// done is how many bytes of a READ have been answered, or of a WRITE
	// have been written.
	done int
	// data is the payload of a request that a worker handles, or what it is
	// reading. It is released with the request.
	data *buffer
	// work handles the request. It is made once for the life of the struct,
	// so that starting a goroutine allocates nothing.
	work func()
}

// remaining is how much of the payload has not been written.
func (r *request) remaining() int { return int(r.payload) - r.done }

// A refusal is what is wrong with a request, in the words of the protocol.
type refusal struct {
	code uint32
	text string
}

func (f *refusal) Error() string { return f.text }

func refuse(code uint32, format string, args ...any) *refusal {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

// parseHeader fills r from a header of the kind that has been agreed on.
func (r *request) parseHeader(p []byte, extended bool) error {
	magic := binary.BigEndian.Uint32(p)
	r.flags = binary.BigEndian.Uint16(p[4:])
	r.cmd = command(binary.BigEndian.Uint16(p[6:]))
	r.cookie = binary.BigEndian.Uint64(p[8:])
	r.off = binary.BigEndian.Uint64(p[16:])
	r.payload, r.done = 0, 0
	if extended {
		if magic != magicExtendedRequest {
			return fmt.Errorf("request starts with %#x, expected %#x", magic, magicExtendedRequest)
		}
		r.length = binary.BigEndian.Uint64(p[24:])
		if r.flags&cmdFlagPayloadLen != 0 {
			r.payload = r.length
		}
		return nil
	}
	if magic != magicRequest {
		return fmt.Errorf("request starts with %#x, expected %#x", magic, magicRequest)
	}
	r.length = uint64(binary.BigEndian.Uint32(p[24:]))
	if r.cmd == cmdWrite {
		r.payload = r.length
	}
	return nil
}

// allowedFlags holds the flags that a command may carry besides FUA, which is
// allowed everywhere.
var allowedFlags = [...]uint16{
	cmdRead:        cmdFlagDF,
	cmdWrite:       0,
	cmdDisc:        0,
	cmdFlush:       0,
	cmdTrim:        0,
	cmdCache:       0,
	cmdWriteZeroes: cmdFlagNoHole | cmdFlagFastZero,
	cmdBlockStatus: cmdFlagReqOne,
}

// check returns what is wrong with r, or nil.
func (r *request) check(s *session, payload int) *refusal {
	if r.cmd == cmdDisc {
		return nil // there is no reply to it
	}
	if int(r.cmd) >= len(allowedFlags) {
		return refuse(wireEINVAL, "%v is not known", r.cmd)
	}
	if f := r.checkFlags(s); f != nil {
		return f
	}
	switch r.cmd {
	case cmdWrite, cmdTrim, cmdWriteZeroes:
		if s.info.ReadOnly {
			return refuse(wireEPERM, "the export is read-only")
		}
	case cmdBlockStatus:
		if len(s.contexts) == 0 {
			return refuse(wireEINVAL, "no metadata context has been selected")
		}
		if r.payload > 0 {
			return r.checkStatusPayload()
		}
	case cmdFlush:
		return nil
	}
	if f := r.checkRange(&s.info, r.length); f != nil {
		return f
	}
	limit := uint64(maxPayload(&s.info, payload))
	switch {
	case r.cmd == cmdRead && r.length > limit:
		return refuse(wireEOVERFLOW, "READ of %d bytes, at most %d are allowed", r.length, limit)
	case r.cmd == cmdWrite && r.length > limit:
		return refuse(wireEINVAL, "WRITE of %d bytes, at most %d are allowed", r.length, limit)
	}
	return nil
}

func (r *request) checkFlags(s *session) *refusal {
	allowed := allowedFlags[r.cmd] | cmdFlagFUA
	if !s.structured {
		allowed &^= cmdFlagDF
	}
	if s.flags&flagSendFastZero == 0 {
		allowed &^= cmdFlagFastZero
	}
	if s.extended && (r.cmd == cmdWrite || r.cmd == cmdBlockStatus) {
		allowed |= cmdFlagPayloadLen
	}
	if bad := r.flags &^ allowed; bad != 0 {
		return refuse(wireEINVAL, "%v with flags %#x, which are not allowed", r.cmd, bad)
	}
	switch {
	case s.extended && r.cmd == cmdWrite && r.flags&cmdFlagPayloadLen == 0:
		return refuse(wireEINVAL, "WRITE without a payload")
	case r.cmd == cmdTrim && s.flags&flagSendTrim == 0 && !s.info.ReadOnly:
		return refuse(wireEINVAL, "TRIM was not offered")
	}
	return nil
}

// checkRange checks that n bytes at r.off lie in the device and on its blocks.
func (r *request) checkRange(info *block.Info, n uint64) *refusal {
	size := uint64(info.Size)
	if r.off > size || n > size-r.off {
		code := wireEINVAL
		if r.cmd == cmdWrite || r.cmd == cmdWriteZeroes {
			code = wireENOSPC
		}
		return refuse(code, "%v of %d bytes at %d, the export has %d", r.cmd, n, r.off, size)
	}
	if m := uint64(max(info.MinBlock, 1)); (r.off|n)&(m-1) != 0 {
		return refuse(wireEINVAL, "%v of %d bytes at %d, must be multiples of %d", r.cmd, n, r.off, m)
	}
	return nil
}

// wireError is the number that err has in a reply.
func wireError(err error, flags block.Flags) uint32 {
	if errors.Is(err, block.ErrRange) {
		return wireEINVAL
	}
	switch block.Errno(err) {
	case 0:
		return 0
	case syscall.EPERM, syscall.EACCES, syscall.EROFS:
		return wireEPERM
	case syscall.ENOMEM:
		return wireENOMEM
	case syscall.EINVAL:
		return wireEINVAL
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG:
		return wireENOSPC
	case syscall.ESHUTDOWN:
		return wireESHUTDOWN
	case syscall.ENOTSUP:
		if flags&block.FastZero != 0 {
			return wireENOTSUP
		}
		return wireEINVAL
	}
	return wireEIO
}

// wireText is the text for an error of the device. It tells a client what
// happened, not how the server is made inside.
func wireText(code uint32) string { return syscall.Errno(code).Error() }
