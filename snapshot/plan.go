package snapshot

// Where says on which device a place is.
type Where uint8

const (
	// OnOrigin: on the origin device, at the offset of the chunk.
	OnOrigin Where = iota
	// OnStore: on the store device. Chunks there have their full size, the
	// last one of an origin with an odd size is filled up with zeros.
	OnStore
	// Hole: nowhere. It reads as zeros.
	Hole
)

// A Place is where the content of a chunk lies, or that of the first of
// several adjacent ones.
type Place struct {
	Where Where
	// Off is the offset in bytes on the store device, if it is there.
	Off int64
}

// A Segment is a run of chunks of a view with adjacent places.
type Segment struct {
	Place
	// N is the number of chunks.
	N int64
	// Writable: this view may write these places as they are. On the origin
	// device that is so for the origin if no snapshot lies there. On the
	// store it is so if no other view lies there, and if the store does not
	// need the old bytes to recover from a crash.
	Writable bool
}

// An Op is what a request to Plan wants.
type Op uint8

const (
	// Write gives a view new places of its own on the store, of which the
	// whole content will be written.
	Write Op = iota
	// Clear makes chunks of a view holes.
	Clear
	// Detach makes all snapshots leave the origin device, by copies. The
	// place of the origin stays as it is. Its View is Origin.
	Detach
)

// A Request asks for a plan for the chunks of a view from Chunk on. N, their
// number, is at least 1 and at most 1024.
type Request struct {
	Op       Op
	View     ID
	Chunk, N int64
}

// MaxDests bounds the destinations of the copies in a plan: what is read once
// is written to that many places.
const MaxDests = 8

// A Plan says what has to be written before a request is fulfilled by Apply.
// It belongs to the engine until then. All places in it are those of the first
// chunk, and the others follow.
type Plan struct {
	// Request has N as far as the plan reaches.
	Request
	// Copies are to be made first. A Detach plan without copies has nothing
	// to do: it is neither applied nor abandoned.
	Copies []Copy
	// Target is the offset on the store device for the data of Write. It is
	// never a place that has been in use since the last commit. The engine
	// writes whole chunks.
	Target int64
	// Old is the place that View has now, for Write and Clear: the source of
	// the parts of chunks that are not written.
	Old Place
	// OldShared: other views have the place Old as well.
	OldShared bool
	// More: this plan does not fulfil the request, as it needs too many
	// destinations. Apply it, and plan again.
	More bool
	// Sums are the CRC-32C of the chunks at Target, set by the engine. The
	// store may provide room for them, and for those of copies.
	Sums []uint32
	// Private is the store's own.
	Private any
}

// A Copy of N chunks of a plan goes from one place to up to MaxDests places on
// the store device.
type Copy struct {
	From Place
	To   []int64
	// Sums are the CRC-32C of the chunks, set by the engine.
	Sums []uint32
}
