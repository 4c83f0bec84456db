package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net"
	"os"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/job"
	"github.com/strata-storage/strata/cluster/place"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/steward"
	"github.com/strata-storage/strata/cluster/upkeep"
)

// Options are the options of Start. Dir is needed.
type Options struct {
	// Dir is the data directory. See package home.
	Dir string
	// Name is what people call the node, that of the machine if it is empty.
	Name string
	// Zone is what fails together. If it is empty, it is the one that the node had before,
	// and at first the node alone.
	Zone string
	// Disks are those that the node is to have, besides the ones it has from earlier
	// starts, which it keeps until they are forgotten. If there are none it gets one in
	// Dir, of DiskSize bytes, or nine tenths of what its file system has free if that
	// is 0. Nothing is allocated before it is written.
	Disks    []DiskOptions
	DiskSize int64
	// GatewayOnly is a node without disks, which only serves volumes, and may vote.
	GatewayOnly bool
	// Groups is the number of placement groups, a power of two, of a cluster that is
	// made. 0 is place.Groups.
	Groups int

	// Listen is the address for other nodes, host:port. Advertise is where they find
	// it, and with another port all that follows: a host, or host:port. If it is
	// empty, it is Listen, or for all addresses of the machine one of them.
	Listen, Advertise string

	// Agreed is the address where other nodes reach what the cluster agrees on, Votes
	// where those talk to each other that vote on it, and Door where those ask that
	// want to join, host:port all of them. Without them the node never votes, and if it
	// is the first one nobody can join.
	Agreed, Votes, Door string

	// Join is the Door of a node of the cluster that this one joins, by a token that
	// one of its nodes has made, if the data directory is empty.
	Join, Token string

	// OlderCopy lets the node start with a data directory that is an older copy of its own, as
	// there is no newer one any more. What was written since is lost where no other node has
	// it, and so may be what was agreed on.
	OlderCopy bool

	// Lease is how long a node may not be heard of until others do without it. 0 is
	// 10 s.
	Lease time.Duration
	// Keep is for how long a volume stays attached that nobody has open. 0 is 10 s.
	Keep time.Duration
	// Cache is the memory in bytes for each disk, half of it for its metadata store.
	// 0 is 128 MiB.
	Cache int64

	// VoterGrace is after which silence another node gets the vote of one that has it.
	// 0 is 30 s.
	VoterGrace time.Duration

	// Steward says how fast groups are moved and mended.
	Steward steward.Options

	// Tidy is how often objects of attached volumes are compared that were written. 0 is
	// 5 minutes, and less than that never.
	Tidy time.Duration

	// Upkeep says how often disks are compared and verified.
	Upkeep upkeep.Options

	// Version is what the program says it is.
	Version string
	// Log is told what an operator wants to know. Nil is nobody.
	Log *slog.Logger

	// slab, in tests, is put around the slabs of disks, board has the jobs, dial is
	// another way to reach nodes than net.Dialer, and votePause another votePause.
	slab      func(block.Device) block.Device
	board     *job.Board
	votePause time.Duration
	dial      func(ctx context.Context, network, addr string) (net.Conn, error)
}

// DiskOptions are a disk of a node.
type DiskOptions struct {
	// Path is a file, which is made if there is none, a block device, or a directory for
	// blocks and metadata together; those of the others are in the data directory. Empty
	// is the one disk in there.
	Path string
	// Size is in bytes, for a file that is made. 0 is nine tenths of what its file
	// system has free.
	Size int64
	// Weight is what placement counts, in proportion to other disks. 0 is the size, or
	// what it was before.
	Weight int64
	// Overwrite allows that something else is lost that is there.
	Overwrite bool
}

const (
	minDisk  = 64 << 20
	diskUnit = 1 << 20
)

func (o Options) withDefaults() (_ Options, err error) {
	if o.Dir == "" {
		return o, fmt.Errorf("a node needs a data directory")
	}
	if o.Name == "" {
		o.Name, _ = os.Hostname()
	}
	if err := errors.Join(record.CheckNodeName(o.Name), record.CheckZone(cmp.Or(o.Zone, "none"))); err != nil {
		return o, err
	}
	o.Groups = cmp.Or(o.Groups, place.Groups)
	if o.Groups < 1 || o.Groups > place.MaxGroups || bits.OnesCount(uint(o.Groups)) != 1 {
		return o, fmt.Errorf("%d groups, expected a power of two up to %d", o.Groups, place.MaxGroups)
	}
	if o.Disks, err = o.checkDisks(); err != nil {
		return o, err
	}
	if (o.Join == "") != (o.Token == "") {
		return o, fmt.Errorf("a node joins by the address of another one and a token, expected both")
	}
	if err := o.checkAddresses(); err != nil {
		return o, err
	}
	if err := coord.CheckTTL(cmp.Or(o.Lease, 10*time.Second)); err != nil {
		return o, fmt.Errorf("the lease of a node: %w", err)
	}
	o.Lease = cmp.Or(o.Lease, 10*time.Second)
	o.Keep = cmp.Or(o.Keep, 10*time.Second)
	o.Tidy = cmp.Or(o.Tidy, tidyEvery)
	o.Cache = cmp.Or(o.Cache, 128<<20)
	o.Version = cmp.Or(o.Version, "unknown")
	if o.dial == nil {
		o.dial = new(net.Dialer).DialContext
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}
