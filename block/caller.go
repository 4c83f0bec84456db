package block

import "context"

// A Caller says on whose behalf a request is made. Servers put it into the
// context of the requests that they make; layers that log, account or decide
// read it.
type Caller struct {
	// Export is the name under which the device is served.
	Export string
	// Peer is the address of the client, in a form for people.
	Peer string
	// Identity is what the client proved about itself, such as the subject
	// of its certificate; empty if nothing.
	Identity string
}

type callerKey struct{}

// WithCaller returns a context that carries c, which must not be changed
// afterwards.
func WithCaller(ctx context.Context, c *Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf returns the caller in ctx. It is never nil.
func CallerOf(ctx context.Context) *Caller {
	if c, ok := ctx.Value(callerKey{}).(*Caller); ok {
		return c
	}
	return &noCaller
}

var noCaller Caller
