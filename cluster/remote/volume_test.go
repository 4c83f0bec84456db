package remote

import (
	"context"
	"fmt"
	"iter"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/family"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/cluster/replica"
	"github.com/strata-storage/strata/cluster/wire"
	"github.com/strata-storage/strata/source"
)

// agreed does not change.
type agreed struct {
	group      record.Group
	epoch      coord.Revision
	generation coord.Revision
	tree       *family.Tree
}

func (a *agreed) Group(int) (record.Group, coord.Revision)                  { return a.group, a.epoch }
func (a *agreed) Attachment(replica.Head) coord.Revision                    { return a.generation }
func (a *agreed) Wait(context.Context, coord.Revision) error                { return nil }
func (a *agreed) Frozen(replica.Head) bool                                  { return false }
func (a *agreed) Copies(uint64) int                                         { return 3 }
func (a *agreed) Needed(int) int                                            { return 1 }
func (a *agreed) Changed() <-chan struct{}                                  { return make(chan struct{}) }
func (a *agreed) Tree(_ context.Context, _, _ uint64) (*family.Tree, error) { return a.tree, nil }

// volume is one whose disks are other nodes, each behind a socket.
func volume(t testing.TB, copies int, open func(*agreed) replica.Disk) block.Device {
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	ctx, a := t.Context(), &agreed{}
	store := memory.NewServer(memory.Options{}).Client(memory.ClientOptions{})
	groups, head := &replica.Groups{Store: store}, replica.Head{Family: 1, Version: 1}
	key := record.GroupKey(record.GroupOf(3, 0))
	for i := range copies {
		a.group.Members = append(a.group.Members, record.Member{Disk: fmt.Sprint("d", i), Incarnation: "1"})
	}
	value, err := record.Encode(key, a.group)
	must(err)
	made, err := store.Txn(ctx, coord.Txn{Then: []coord.Op{coord.Put(key, value)}})
	must(err)
	a.epoch, a.generation = made.Revision, made.Revision
	a.tree, err = family.New(1, []family.Version{{ID: 1}})
	must(err)
	lease, err := coord.NewLease(ctx, store, time.Minute)
	must(err)
	peers := map[string]replica.Peer{}
	for _, r := range a.group.Members {
		m := replica.NewMember(replica.MemberConfig{
			ID: r.Disk, Incarnation: "1", Disk: open(a), Agreed: a, Clock: store.Clock(), Groups: 1,
		})
		peers[r.Disk] = behindSocket(t, m)
	}
	v, err := replica.Attach(ctx, replica.Config{
		Groups: groups, Agreed: a, Trees: a, Peer: func(m record.Member) replica.Peer { return peers[m.Disk] },
		Lease: lease, Head: head, Generation: a.generation, Tree: 1, Size: 300_000, ObjectSize: 64 << 10, Copies: 3, Count: 1,
	})
	must(err)
	t.Cleanup(func() {
		v.Close()
		lease.Revoke(context.Background())
	})
	return v
}

// behindSocket returns the way to a disk through a socket.
func behindSocket(t testing.TB, m replica.Peer) replica.Peer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &wire.Server{
		Self: wire.Identity{Cluster: "c", Node: "b", Incarnation: "1"}, Errors: Errors(),
		Operations: Operations(func(string) replica.Peer { return m }),
	}
	go s.Serve(l)
	link := wire.NewLink(wire.Options{
		Self: wire.Identity{Cluster: "c", Node: "a", Incarnation: "1"}, Node: "b", Errors: Errors(),
		Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		},
	})
	t.Cleanup(func() {
		link.Close()
		s.Close()
	})
	return NewPeer(link)
}

// A volume whose three copies are behind sockets is a device, on real disks.
func TestVolumeConforms(t *testing.T) {
	t.Parallel()
	blocktest.Run(t, func(t testing.TB) block.Device {
		return volume(t, 3, func(a *agreed) replica.Disk {
			slab, err := source.Mem(t.Context(), source.MemOptions{Size: 64 << 20})
			if err != nil {
				t.Fatal(err)
			}
			c := disk.Config{Slab: slab, Dir: "meta", FS: vfs.NewMem(), Trees: a}
			if _, err := disk.Format(t.Context(), c, false); err != nil {
				t.Fatal(err)
			}
			d, err := disk.Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.Close() })
			return d
		})
	})
}

// A nullDisk takes everything and has nothing.
type nullDisk struct{ replica.Disk }

func (nullDisk) Read(context.Context, disk.At, []byte, int64) error  { return nil }
func (nullDisk) Write(context.Context, disk.At, []byte, int64) error { return nil }
func (nullDisk) Flush(context.Context) error                         { return nil }
func (nullDisk) Dirty(context.Context, uint64, uint64) iter.Seq2[disk.DirtyObject, error] {
	return func(func(disk.DirtyObject, error) bool) {}
}

// What replication and the way to three disks cost, all in one process.
func BenchmarkVolume(b *testing.B) {
	for _, depth := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("write4KiB/copies3/depth%d", depth), func(b *testing.B) {
			v := volume(b, 3, func(*agreed) replica.Disk { return nullDisk{} })
			b.SetBytes(disk.BlockSize)
			b.ReportAllocs()
			b.ResetTimer()
			var work sync.WaitGroup
			for i := range depth {
				work.Go(func() {
					p := make([]byte, disk.BlockSize)
					for n := i; n < b.N; n += depth {
						if err := v.WriteAt(b.Context(), p, int64(i%64)*disk.BlockSize, 0); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			work.Wait()
		})
	}
}
