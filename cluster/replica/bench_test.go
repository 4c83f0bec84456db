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
func smallCluster(t testing.TB, copies int, open func(i int, m *mirror) Disk) (*Volume, []*Member) {
	store := memory.NewServer(memory.Options{}).Client(memory.ClientOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	m := newMirror()
	followed := make(chan struct{})
	go func() { m.follow(ctx, store); close(followed) }()
	groups := &Groups{store}
	tree := []byte(`[{"ID":1}]`)
	var list []record.Member
	var members []*Member
	peer := func(r record.Member) Peer {
		for _, x := range members {
			if x.c.ID == r.Disk {
				return x
			}
		}
		return nil
	}
	for i := range copies {
		list = append(list, record.Member{Disk: diskName(i), Incarnation: "1"})
		members = append(members, NewMember(MemberConfig{
			ID: diskName(i), Incarnation: "1", Disk: open(i, m), Agreed: m, Clock: store.Clock(), Groups: 1, Peer: peer, Patience: time.Second,
		}))
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := store.Txn(ctx, coord.Txn{Then: []coord.Op{coord.Put("tree", tree)}})
	must(err)
	_, err = groups.Create(ctx, record.GroupOf(simCopies, 0), list)
	must(err)
	lease, err := coord.NewLease(ctx, store, time.Minute)
	must(err)
	h := Head{1, 1}
	generation, err := Claim(ctx, store, lease, h, record.Attachment{Node: "n"})
	must(err)
	v, err := Attach(ctx, Config{
		Groups: groups, Agreed: m, Trees: m, Peer: peer, Lease: lease, Head: h, Generation: generation,
		Tree: 1, Size: smallSize, ObjectSize: smallObject, Copies: simCopies, Count: 1, Limit: time.Second,
	})
	must(err)
	t.Cleanup(func() {
		_ = v.Close()
		_ = lease.Revoke(context.Background())
		cancel()
		<-followed
	})
	return v, members
}

// What replication itself costs: disks and ways to them cost nothing here.
func BenchmarkVolume(b *testing.B) {
	for _, copies := range []int{1, 3} {
		for _, what := range []string{"write", "read"} {
			b.Run(fmt.Sprintf("%s/copies=%d", what, copies), func(b *testing.B) {
				v, _ := smallCluster(b, copies, func(int, *mirror) Disk { return nullDisk{} })
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
