package replica

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
	"github.com/strata-storage/strata/cluster/disk"
	"github.com/strata-storage/strata/cluster/record"
)

// A nullDisk takes everything and has nothing.
type nullDisk struct{ Disk }

func (nullDisk) Read(context.Context, disk.At, []byte, int64) error  { return nil }
func (nullDisk) Write(context.Context, disk.At, []byte, int64) error { return nil }
func (nullDisk) Flush(context.Context) error                         { return nil }
func (nullDisk) Dirty(context.Context, uint64, uint64) iter.Seq2[disk.DirtyObject, error] {
	return func(func(disk.DirtyObject, error) bool) {}
}

const (
	smallSize   = 300_000
	smallObject = 64 << 10
)

// smallCluster attaches a volume to copies disks of this process, of one group.
func smallCluster(t testing.TB, copies int, open func(disk.Trees) Disk) (*Volume, []*Member) {
	store := memory.NewServer(memory.Options{}).Client(memory.ClientOptions{})
	ctx := t.Context()
	group := record.Group{}
	list := map[string]record.Record{record.PoolKey: record.Pool{Cluster: fmt.Sprintf("%032x", 1), Format: record.Format, Groups: 1}}
	for i := range copies {
		group.Members = append(group.Members, record.Member{Disk: diskName(i), Incarnation: "1"})
		list[record.NodeKey(nodeName(i))] = record.Node{ID: nodeName(i), Zone: nodeName(i)}
		list[record.DiskKey(diskName(i))] = record.Disk{ID: diskName(i), Node: nodeName(i), Weight: 1}
	}
	list[record.GroupKey(record.GroupOf(simCopies, 0))] = group
	put(t, store, list)
	c := record.Catalog{Store: store}
	_, err := c.Create(ctx, "v", record.Spec{Size: smallSize, ObjectSize: smallObject, Copies: simCopies})
	must(t, err)
	state, err := record.Follow(ctx, store)
	must(t, err)
	agreed := records{state}
	var members []*Member
	peer := func(r record.Member) Peer { return members[nodeOf(r.Disk)] }
	for _, m := range group.Members {
		members = append(members, NewMember(MemberConfig{
			ID: m.Disk, Incarnation: "1", Disk: open(agreed), Agreed: agreed, Clock: store.Clock(), Groups: 1, Peer: peer, Patience: time.Second,
		}))
	}
	lease, err := coord.NewLease(ctx, store, time.Minute)
	must(t, err)
	h, generation, err := c.Attach(ctx, "v", lease.ID(), record.Attachment{Node: "n0", Incarnation: "1"})
	must(t, err)
	head, tree := headOf(h)
	v, err := Attach(ctx, Config{
		Groups: &Groups{Store: store}, Agreed: agreed, Trees: agreed, Peer: peer, Lease: lease, Head: head, Generation: generation,
		Tree: tree, Size: smallSize, ObjectSize: smallObject, Copies: simCopies, Count: 1, Limit: time.Second,
	})
	must(t, err)
	t.Cleanup(func() {
		_ = v.Close()
		_ = lease.Revoke(context.Background())
		_ = state.Close()
	})
	return v, members
}

// What replication itself costs: disks and ways to them cost nothing here.
func BenchmarkVolume(b *testing.B) {
	for _, copies := range []int{1, 3} {
		for _, what := range []string{"write", "read"} {
			b.Run(fmt.Sprintf("%s/copies=%d", what, copies), func(b *testing.B) {
				v, _ := smallCluster(b, copies, func(disk.Trees) Disk { return nullDisk{} })
				p := make([]byte, disk.BlockSize)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					off := int64(i%64) * disk.BlockSize
					var err error
					if what == "write" {
						err = v.WriteAt(b.Context(), p, off, 0)
					} else {
						err = v.ReadAt(b.Context(), p, off, 0)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
