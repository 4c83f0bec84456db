package nbd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/strata-storage/strata/block"
)

// A Client is an export of a server as a [block.Device]. Requests of any
// number of goroutines are in flight at the same time, and those that come
// together are sent together. Requests longer than the server allows are
// split.
//
// # Lost connections
//
// A lost connection is made again, see [Reconnect], and every request that had
// no reply is sent again in the order of issue; so is a Flush. The new
// connection must lead to the same disk: if size or block sizes have changed,
// or if it has become read-only or lost another ability, all requests fail
// for good with an error that says so. Two assumptions make this safe, which
// a client cannot check:
//
//   - The server keeps, across its own restart, what it had acknowledged. A
//     server that hands writes to the operating system at once does so even
//     when it is killed. One that keeps them in its own memory does not; nor
//     does a machine that loses power, after which a Flush on the new
//     connection would not know of the writes lost before it.
//   - The server has stopped working on the requests of a connection before
//     those that are sent again on the next one are answered. Otherwise an
//     old copy of a write could come after a newer write to the same place.
//
// Who cannot rely on them asks [Client.Losses], or sets Reconnect.Off: then a
// lost connection ends the device, and a Flush succeeds only on the connection
// of its writes.
//
// A server that breaks the protocol is cut off, and what it was working on
// fails with an error that names the broken rule; later requests use a new
// connection.
//
// # Durability
//
// Flush is the server's FLUSH, and FUA its FUA or, if it has none, a FLUSH
// after the request. If the server has FUA but no FLUSH, everything that
// changes the disk is sent with FUA. If it has neither, there is no way to
// ask for durability: as every NBD client does, this one takes the server's
// word that what it acknowledges needs no flushing, and Flush does nothing.
// Export().Has("SEND_FLUSH") tells.
//
// # Cancellation
//
// A cancelled request returns soon, and its buffer is not used any more. If
// the server may still be working on a write that was cancelled, later
// requests of this client to the same place wait until it has answered.
// A cancelled write that the server does not even receive within a second
// costs the connection.
type Client struct {
	target *target
	export *ExportInfo
	info   block.Info
	// most is the length of the longest request with a payload, long that
	// of the longest without.
	most int
	long int64

	gate   block.Gate
	calls  callPool
	ghosts ghosts
	lanes  []*lane // complete before the client is used
	losses atomic.Int64

	ctx     context.Context // ends with the client
	cancel  context.CancelCauseFunc
	running sync.WaitGroup
}

var _ block.Device = (*Client)(nil)

// longest is the length to which requests without payload are split when
// lengths have 32 bits: a multiple of every block size.
const longest = 1 << 31

func newClient(t *target, w *wire) *Client {
	c := &Client{target: t, export: w.export, info: w.export.device(), most: w.export.payload(), long: longest, calls: newCallPool()}
	if w.form == ExtendedReplies {
		c.long = 1 << 62
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	if !c.info.ReadOnly && !c.export.has(flagSendFlush) && !c.export.has(flagSendFUA) {
		t.log.Warn("nbd: the server has no way to make writes durable on demand", "server", t.name)
	}
	c.addLane(w)
	return c
}

func (c *Client) addLane(w *wire) {
	l := newLane(c)
	c.lanes = append(c.lanes, l)
	c.running.Go(func() { l.run(w) })
}

// Export tells what the server said about the export. The slices in it must
// not be changed.
func (c *Client) Export() ExportInfo { return *c.export }

// Conns is the number of connections.
func (c *Client) Conns() int { return len(c.lanes) }

// Losses is how many connections were lost so far. If it is the same before a
// write and after a later Flush, the server was there all the time, and the
// Flush covers the write whatever restarts do to the server.
func (c *Client) Losses() int64 { return c.losses.Load() }

// Info describes the export as a device.
func (c *Client) Info() block.Info { return c.info }

// ReadAt implements block.Device.
func (c *Client) ReadAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := c.gate.Enter(); err != nil {
		return err
	}
	defer c.gate.Leave()
	if err := c.info.CheckRead(off, len(p)); err != nil {
		return err
	}
	for len(p) > 0 {
		n := min(len(p), c.most)
		if err := c.do(ctx, cmdRead, 0, off, int64(n), p[:n]); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// WriteAt implements block.Device.
func (c *Client) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	if err := c.gate.Enter(); err != nil {
		return err
	}
	defer c.gate.Leave()
	if err := c.info.CheckWrite(off, len(p)); err != nil {
		return err
	}
	return c.write(ctx, p, off, flags)
}

func (c *Client) write(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	fua, flush := c.durability(flags)
	for len(p) > 0 {
		n := min(len(p), c.most)
		if err := c.do(ctx, cmdWrite, fua, off, int64(n), p[:n]); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return c.flushIf(ctx, flush)
}

// durability says how to make a change as durable as flags ask: by a flag of
// the request or by a flush after it.
func (c *Client) durability(flags block.Flags) (fua uint16, flush bool) {
	asked := flags&block.FUA != 0
	switch {
	case c.export.has(flagSendFUA) && (asked || !c.export.has(flagSendFlush)):
		return cmdFlagFUA, false
	case asked:
		return 0, true
	}
	return 0, false
}

func (c *Client) flushIf(ctx context.Context, needed bool) error {
	if !needed || !c.export.has(flagSendFlush) {
		return nil
	}
	return c.do(ctx, cmdFlush, 0, 0, 0, nil)
}

// Zero implements block.Device. If the server cannot zero, zeros are written.
func (c *Client) Zero(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := c.gate.Enter(); err != nil {
		return err
	}
	defer c.gate.Leave()
	if err := c.info.CheckChange(off, n); err != nil {
		return err
	}
	if flags&block.FastZero != 0 && !c.info.FastZeros {
		return block.ErrNotSupported
	}
	fua, flush := c.durability(flags)
	if !c.export.has(flagSendWriteZeroes) {
		if err := block.WriteZeros(ctx, inside{c}, off, n, 0); err != nil {
			return err
		}
		return c.flushIf(ctx, flush || flags&block.FUA != 0 && fua == 0)
	}
	cmdFlags := fua
	if flags&block.NoHole != 0 {
		cmdFlags |= cmdFlagNoHole
	}
	if flags&block.FastZero != 0 {
		cmdFlags |= cmdFlagFastZero
	}
	for n > 0 {
		k := min(n, c.long)
		if err := c.do(ctx, cmdWriteZeroes, cmdFlags, off, k, nil); err != nil {
			return err
		}
		// The first part went fast. To change nothing is too late for the
		// rest.
		cmdFlags &^= cmdFlagFastZero
		off, n = off+k, n-k
	}
	return c.flushIf(ctx, flush)
}

// inside is the client for a request that is past the gate.
type inside struct{ *Client }

func (c inside) WriteAt(ctx context.Context, p []byte, off int64, flags block.Flags) error {
	return c.write(ctx, p, off, flags)
}

// Trim implements block.Device.
func (c *Client) Trim(ctx context.Context, off, n int64, flags block.Flags) error {
	if err := c.gate.Enter(); err != nil {
		return err
	}
	defer c.gate.Leave()
	if err := c.info.CheckChange(off, n); err != nil {
		return err
	}
	if !c.info.Trims {
		return nil
	}
	fua, flush := c.durability(flags)
	for n > 0 {
		k := min(n, c.long)
		if err := c.do(ctx, cmdTrim, fua, off, k, nil); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return c.flushIf(ctx, flush)
}

// Flush implements block.Device. See Client for what it promises across lost
// connections and with servers that cannot flush.
func (c *Client) Flush(ctx context.Context) error {
	if err := c.gate.Enter(); err != nil {
		return err
	}
	defer c.gate.Leave()
	return c.flushIf(ctx, true)
}

// do carries out one request.
func (c *Client) do(ctx context.Context, cmd command, flags uint16, off, n int64, buf []byte) error {
	k, err := c.issue(ctx, call{cmd: cmd, flags: flags, off: uint64(off), n: uint64(n), buf: buf})
	if err == nil {
		c.calls.give(k)
	}
	return err
}

// issue carries out the request that is in form. Unless it returns an error
// the call comes back with the result and is the caller's to give back.
func (c *Client) issue(ctx context.Context, form call) (*call, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := c.ghosts.wait(ctx, form.off, form.n); err != nil {
		return nil, err
	}
	k, err := c.calls.take(ctx)
	if err != nil {
		return nil, err
	}
	k.cmd, k.flags, k.off, k.n, k.buf, k.context = form.cmd, form.flags, form.off, form.n, form.buf, form.context
	l := c.pick()
	if err := l.submit(k); err != nil {
		c.calls.give(k)
		return nil, err
	}
	select {
	case <-k.done:
	case <-ctx.Done():
		if l.abandon(k) {
			return nil, context.Cause(ctx)
		}
		<-k.done
	}
	if err := k.err; err != nil {
		c.calls.give(k)
		return nil, err
	}
	return k, nil
}

// pick returns the connection that has the least to do, of those that are up
// if any is.
func (c *Client) pick() *lane {
	best := c.lanes[0]
	if len(c.lanes) == 1 {
		return best
	}
	up, load := best.up.Load(), best.load.Load()
	for _, l := range c.lanes[1:] {
		u, n := l.up.Load(), l.load.Load()
		if u && !up || u == up && n < load {
			best, up, load = l, u, n
		}
	}
	return best
}

// Close waits for the requests in flight and disconnects. It flushes nothing.
func (c *Client) Close() error {
	if err := c.gate.Close(); err != nil {
		return err
	}
	c.ghosts.settle()
	c.cancel(block.ErrClosed)
	var wg sync.WaitGroup
	for _, l := range c.lanes {
		wg.Go(l.disconnect)
	}
	wg.Wait()
	c.running.Wait()
	return nil
}

// abort ends a client that never came to life.
func (c *Client) abort(cause error) {
	c.giveUp(cause)
	c.Close()
}

// giveUp fails all requests for good.
func (c *Client) giveUp(cause error) {
	for _, l := range c.lanes {
		l.drop(cause, true)
	}
}

var errGoodbye = errors.New("the client has been closed")

// lost makes the error of requests whose connection is gone.
func (c *Client) lost(how string, cause error) error {
	return &lostError{c.target.name, how, cause}
}

// String is for people.
func (c *Client) String() string { return fmt.Sprintf("nbd client of %s", c.target.name) }
