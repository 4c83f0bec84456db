package upkeep

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// mendMet is the goroutine that mends what clients have met.
func (k *Keeper) mendMet(ctx context.Context, d *Disk) {
	for {
		select {
		case bad := <-d.rotten:
			_, _ = k.mend(ctx, d, bad)
		case <-ctx.Done():
			return
		}
	}
}

// mend gives a block of a disk the content that it should have, from another member of its
// group. It reports false if the block is as it should be by now.
func (k *Keeper) mend(ctx context.Context, d *Disk, bad *disk.BlockError) (was bool, err error) {
	if errors.Is(bad, disk.ErrUnfinished) {
		return false, nil // that is for who attaches the volume
	}
	f := disk.Fix{Was: disk.Entry{Version: bad.Version, Block: bad.Block, Kind: disk.Data, Sum: bad.Sum}, Kind: disk.Data}
	if f.Data, err = k.content(ctx, d, bad); err == nil {
		var made int
		if made, err = d.Repair(ctx, bad.Object, 0, []disk.Fix{f}); err == nil && made == 0 {
			return false, nil
		}
	}
	if err != nil && k.mended(ctx, d, f.Was, bad.Object) {
		return false, nil
	}
	d.bad.Add(1)
	if err != nil {
		k.c.Log.Error("a block is damaged, and could not be mended", "disk", d.ID, "block", bad, "error", err)
		return true, err
	}
	d.mended.Add(1)
	k.c.Log.Warn("a block was damaged, and is mended", "disk", d.ID, "block", bad)
	return true, nil
}

// mended reports whether a block is what it should be, or is not there any more: several
// may have met it.
func (k *Keeper) mended(ctx context.Context, d *Disk, was disk.Entry, o disk.Object) bool {
	p := make([]byte, disk.BlockSize)
	e, err := d.Raw(ctx, o, was.Version, was.Block, p)
	return err == nil && (e != was || crc32.Checksum(p, castagnoli) == was.Sum)
}

// content gets the content that a block should have.
func (k *Keeper) content(ctx context.Context, d *Disk, bad *disk.BlockError) ([]byte, error) {
	group, g, epoch, ok := k.groupOf(bad.Object)
	if !ok {
		return nil, fmt.Errorf("object %v belongs to no group", bad.Object)
	}
	errs := []error{fmt.Errorf("nobody else has block %d of version %d of object %v as it was written", bad.Block, bad.Version, bad.Object)}
	p := make([]byte, disk.BlockSize)
	for _, m := range g.Members {
		if m.Disk == d.ID {
			continue
		}
		to := replica.To{Disk: m.Disk, Incarnation: m.Incarnation, Group: group, Epoch: epoch}
		found, err := k.contentOf(ctx, k.c.Peer(m), to, bad, p)
		if found {
			return p, nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("disk %s: %w", m.Disk, err))
		}
	}
	return nil, errors.Join(errs...)
}

// contentOf gets the content from one member, where a deletion may have made the block
// another version's.
func (k *Keeper) contentOf(ctx context.Context, peer replica.Peer, to replica.To, bad *disk.BlockError, p []byte) (bool, error) {
	get := func(version uint64) (bool, error) {
		list, err := peer.RawBlocks(ctx, to, bad.Object, version, bad.Block, p)
		found := err == nil && len(list) == 1 && list[0].Kind == disk.Data && list[0].Sum == bad.Sum
		return found && crc32.Checksum(p, castagnoli) == bad.Sum, err
	}
	found, err := get(bad.Version)
	if found || err != nil {
		return found, err
	}
	list, err := peer.Entries(ctx, to, bad.Object, bad.Block, 1)
	for _, e := range list {
		if e.Kind != disk.Data || e.Sum != bad.Sum || e.Version == bad.Version {
			continue
		}
		if found, err = get(e.Version); found || err != nil {
			return found, err
		}
	}
	return false, err
}

// groupOf returns the group of an object and its record.
func (k *Keeper) groupOf(o disk.Object) (group int, g record.Group, epoch coord.Revision, ok bool) {
	v := k.c.State.View()
	f, ok := v.Families.Get(o.Family)
	if !ok || f.Volume.Revision == 0 {
		return 0, g, 0, false
	}
	group = f.Volume.Record.Group(o.Hash(), v.Pool.Record.Groups)
	g, epoch = v.Group(group)
	return group, g, epoch, epoch != 0
}
