package nbd

import "fmt"

// The numbers of the NBD protocol, from doc/proto.md of the NetworkBlockDevice
// project; those of extended headers from its branch extension-ext-header.
// Everything on the wire is big endian.
const (
	magicInit     uint64 = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption   uint64 = 0x49484156454F5054 // "IHAVEOPT"
	magicOptReply uint64 = 0x0003e889045565a9

	magicRequest          uint32 = 0x25609513
	magicSimpleReply      uint32 = 0x67446698
	magicStructuredReply  uint32 = 0x668e33ef
	magicExtendedRequest  uint32 = 0x21e41c71
	magicExtendedReply    uint32 = 0x6e8a278c
	requestSize                  = 28
	simpleReplySize              = 16
	structuredReplySize          = 20
	extendedRequestSize          = 32
	extendedReplySize            = 32
	maxString                    = 4096     // bytes in an export name or any other string
	minMaxPayload                = 32 << 20 // what a server without block sizes must accept
	defaultPort                  = "10809"
	exportNameReplyZeroes        = 124
)

// Handshake flags, of the server and of the client.
const (
	flagFixedNewstyle uint16 = 1 << 0
	flagNoZeroes      uint16 = 1 << 1
)

// An option is a number that a client sends during negotiation.
type option uint32

const (
	optExportName      option = 1
	optAbort           option = 2
	optList            option = 3
	optStartTLS        option = 5
	optInfo            option = 6
	optGo              option = 7
	optStructuredReply option = 8
	optListMetaContext option = 9
	optSetMetaContext  option = 10
	optExtendedHeaders option = 11
)

func (o option) String() string {
	switch o {
	case optExportName:
		return "NBD_OPT_EXPORT_NAME"
	case optAbort:
		return "NBD_OPT_ABORT"
	case optList:
		return "NBD_OPT_LIST"
	case optStartTLS:
		return "NBD_OPT_STARTTLS"
	case optInfo:
		return "NBD_OPT_INFO"
	case optGo:
		return "NBD_OPT_GO"
	case optStructuredReply:
		return "NBD_OPT_STRUCTURED_REPLY"
	case optListMetaContext:
		return "NBD_OPT_LIST_META_CONTEXT"
	case optSetMetaContext:
		return "NBD_OPT_SET_META_CONTEXT"
	case optExtendedHeaders:
		return "NBD_OPT_EXTENDED_HEADERS"
	}
	return fmt.Sprintf("NBD option %d", uint32(o))
}

// A replyCode answers an option.
type replyCode uint32

const (
	repAck         replyCode = 1
	repServer      replyCode = 2
	repInfo        replyCode = 3
	repMetaContext replyCode = 4

	repError           replyCode = 1 << 31
	repErrUnsup        replyCode = repError + 1
	repErrPolicy       replyCode = repError + 2
	repErrInvalid      replyCode = repError + 3
	repErrPlatform     replyCode = repError + 4
	repErrTLSRequired  replyCode = repError + 5
	repErrUnknown      replyCode = repError + 6
	repErrShutdown     replyCode = repError + 7
	repErrBlockSize    replyCode = repError + 8
	repErrTooBig       replyCode = repError + 9
	repErrExtHeaderReq replyCode = repError + 10
)

func (r replyCode) String() string {
	switch r {
	case repAck:
		return "NBD_REP_ACK"
	case repServer:
		return "NBD_REP_SERVER"
	case repInfo:
		return "NBD_REP_INFO"
	case repMetaContext:
		return "NBD_REP_META_CONTEXT"
	case repErrUnsup:
		return "NBD_REP_ERR_UNSUP"
	case repErrPolicy:
		return "NBD_REP_ERR_POLICY"
	case repErrInvalid:
		return "NBD_REP_ERR_INVALID"
	case repErrPlatform:
		return "NBD_REP_ERR_PLATFORM"
	case repErrTLSRequired:
		return "NBD_REP_ERR_TLS_REQD"
	case repErrUnknown:
		return "NBD_REP_ERR_UNKNOWN"
	case repErrShutdown:
		return "NBD_REP_ERR_SHUTDOWN"
	case repErrBlockSize:
		return "NBD_REP_ERR_BLOCK_SIZE_REQD"
	case repErrTooBig:
		return "NBD_REP_ERR_TOO_BIG"
	case repErrExtHeaderReq:
		return "NBD_REP_ERR_EXT_HEADER_REQD"
	}
	return fmt.Sprintf("NBD option reply %#x", uint32(r))
}

// An infoType is a kind of information that INFO and GO ask for.
type infoType uint16

const (
	infoExport      infoType = 0
	infoName        infoType = 1
	infoDescription infoType = 2
	infoBlockSize   infoType = 3
)

// Transmission flags: what an export can do.
const (
	flagHasFlags           uint16 = 1 << 0
	flagReadOnly           uint16 = 1 << 1
	flagSendFlush          uint16 = 1 << 2
	flagSendFUA            uint16 = 1 << 3
	flagRotational         uint16 = 1 << 4
	flagSendTrim           uint16 = 1 << 5
	flagSendWriteZeroes    uint16 = 1 << 6
	flagSendDF             uint16 = 1 << 7
	flagCanMultiConn       uint16 = 1 << 8
	flagSendResize         uint16 = 1 << 9 // reserved, never sent
	flagSendCache          uint16 = 1 << 10
	flagSendFastZero       uint16 = 1 << 11
	flagBlockStatusPayload uint16 = 1 << 12
)

// A command is the type of a request.
type command uint16

const (
	cmdRead        command = 0
	cmdWrite       command = 1
	cmdDisc        command = 2
	cmdFlush       command = 3
	cmdTrim        command = 4
	cmdCache       command = 5
	cmdWriteZeroes command = 6
	cmdBlockStatus command = 7
)

func (c command) String() string {
	switch c {
	case cmdRead:
		return "READ"
	case cmdWrite:
		return "WRITE"
	case cmdDisc:
		return "DISC"
	case cmdFlush:
		return "FLUSH"
	case cmdTrim:
		return "TRIM"
	case cmdCache:
		return "CACHE"
	case cmdWriteZeroes:
		return "WRITE_ZEROES"
	case cmdBlockStatus:
		return "BLOCK_STATUS"
	}
	return fmt.Sprintf("command %d", uint16(c))
}

// Command flags.
const (
	cmdFlagFUA        uint16 = 1 << 0
	cmdFlagNoHole     uint16 = 1 << 1
	cmdFlagDF         uint16 = 1 << 2
	cmdFlagReqOne     uint16 = 1 << 3
	cmdFlagFastZero   uint16 = 1 << 4
	cmdFlagPayloadLen uint16 = 1 << 5
)

// Structured and extended reply flags and chunk types.
const (
	chunkFlagDone uint16 = 1 << 0

	chunkNone           uint16 = 0
	chunkOffsetData     uint16 = 1
	chunkOffsetHole     uint16 = 2
	chunkBlockStatus    uint16 = 5
	chunkBlockStatusExt uint16 = 6
	chunkError          uint16 = 1<<15 + 1
	chunkErrorOffset    uint16 = 1<<15 + 2
)

// Error numbers on the wire; they are Linux's, on every system.
const (
	wireEPERM     uint32 = 1
	wireEIO       uint32 = 5
	wireENOMEM    uint32 = 12
	wireEINVAL    uint32 = 22
	wireENOSPC    uint32 = 28
	wireEOVERFLOW uint32 = 75
	wireENOTSUP   uint32 = 95
	wireESHUTDOWN uint32 = 108
)
