package coord_test

import (
	"context"
	"fmt"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/memory"
)

// A record is changed by whoever knows its latest revision.
func ExampleTxn() {
	ctx := context.Background()
	store := memory.NewServer(memory.Options{}).Client(memory.ClientOptions{})
	defer store.Close()

	made, _ := store.Txn(ctx, coord.Txn{
		If:   []coord.Compare{coord.IfAbsent("pg/7")},
		Then: []coord.Op{coord.Put("pg/7", []byte("a,b,c"))},
	})
	removeC := coord.Txn{
		If:   []coord.Compare{coord.IfRevision("pg/7", made.Revision)},
		Then: []coord.Op{coord.Put("pg/7", []byte("a,b"))},
	}
	first, _ := store.Txn(ctx, removeC)
	again, _ := store.Txn(ctx, removeC)
	fmt.Println(first.Done, again.Done, string(again.Found[0].Value))
	// Output: true false a,b
}

// Whoever leads makes its changes only as long as it does.
func ExampleElect() {
	ctx := context.Background()
	store := memory.NewServer(memory.Options{}).Client(memory.ClientOptions{})
	defer store.Close()

	lease, _ := coord.NewLease(ctx, store, 10*time.Second)
	defer lease.Revoke(ctx)
	steward, _ := coord.Elect(ctx, lease, "leader/steward", []byte("node1"))
	act := coord.Txn{If: []coord.Compare{steward.If()}, Then: []coord.Op{coord.Put("job", []byte("1"))}}
	r, _ := store.Txn(ctx, act)
	fmt.Println(r.Done, steward.Err())

	_ = steward.Resign(ctx)
	r, _ = store.Txn(ctx, act)
	fmt.Println(r.Done)
	// Output:
	// true <nil>
	// false
}

// A copy of what is under a prefix follows it without a gap.
func ExampleStore_watch() {
	ctx := context.Background()
	store := memory.NewServer(memory.Options{}).Client(memory.ClientOptions{})
	defer store.Close()
	put := func(ops ...coord.Op) { _, _ = store.Txn(ctx, coord.Txn{Then: ops}) }

	put(coord.Put("disk/1", []byte("ok")))
	disks := map[string]string{}
	entries, revision, _ := store.List(ctx, "disk/")
	for _, e := range entries {
		disks[e.Key] = string(e.Value)
	}
	put(coord.Put("disk/2", []byte("ok")), coord.Put("disk/1", []byte("failed")))
	put(coord.Delete("disk/1"))
	for change, err := range store.Watch(ctx, "disk/", revision) {
		if err != nil {
			break // of coord.ErrCompacted: List again
		}
		for _, e := range change.Events {
			if e.Deleted {
				delete(disks, e.Key)
			} else {
				disks[e.Key] = string(e.Value)
			}
		}
		fmt.Println(disks)
		if len(disks) == 1 {
			break
		}
	}
	// Output:
	// map[disk/1:failed disk/2:ok]
	// map[disk/2:ok]
}
