package coordtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/strata-storage/strata/cluster/coord"
)

func (s *suite) entries() {
	a, b := s.join(), s.join()
	e, first := s.get(a, "x/1")
	s.equal("an absent entry", e, coord.Entry{Key: "x/1"})
	es, _ := s.list(a, "")
	s.equal("number of entries at first", len(es), 0)

	r1 := s.put(a, "x/2", "x/1", "y")
	if r1 <= first {
		s.Fatalf("a change at revision %d after %d", r1, first)
	}
	r2 := s.txn(b, nil, coord.Put("x/2", nil))
	if r2 <= r1 {
		s.Fatalf("a change at revision %d after %d", r2, r1)
	}
	for _, store := range []coord.Store{a, b} {
		e, r := s.get(store, "x/1")
		s.equal("entry", e, coord.Entry{Key: "x/1", Value: []byte("x/1"), Revision: r1})
		if r < r2 {
			s.Fatalf("read at revision %d after %d was seen", r, r2)
		}
		es, _ := s.list(store, "x/")
		s.equal("list", keys(es), "x/1@"+fmt.Sprint(r1)+" x/2@"+fmt.Sprint(r2))
		s.equal("length of an empty value", len(es[1].Value), 0)
		es, _ = s.list(store, "x")
		s.equal("entries under x", len(es), 2)
		es, _ = s.list(store, "x/11")
		s.equal("entries under x/11", len(es), 0)
		es, _ = s.list(store, "")
		s.equal("all entries", len(es), 3)
	}
	r3 := s.txn(b, nil, coord.Delete("x/1"), coord.Put("z", []byte{0, 255}))
	es, at := s.list(a, "")
	s.equal("list", keys(es), fmt.Sprintf("x/2@%d y@%d z@%d", r2, r1, r3))
	s.equal("value", es[2].Value, []byte{0, 255})
	if at < r3 {
		s.Fatalf("list at revision %d after %d was seen", at, r3)
	}
	e, _ = s.get(a, "x/1")
	s.equal("a deleted entry", e, coord.Entry{Key: "x/1"})
}

func keys(es []coord.Entry) string {
	var all []string
	for _, e := range es {
		all = append(all, fmt.Sprintf("%s@%d", e.Key, e.Revision))
	}
	return strings.Join(all, " ")
}

func (s *suite) transactions() {
	a, b := s.join(), s.join()
	r := s.txn(a, []coord.Compare{coord.IfAbsent("k"), coord.IfAbsent("l")}, coord.Put("k", []byte("1")))
	s.txn(b, []coord.Compare{coord.IfRevision("k", r), coord.IfAbsent("l")}, coord.Put("m", nil))

	refused := func(ifs []coord.Compare, found ...coord.Entry) {
		s.Helper()
		_, before := s.get(a, "k")
		got, err := b.Txn(s.ctx(), coord.Txn{If: ifs, Then: []coord.Op{coord.Put("k", []byte("no")), coord.Put("n", nil), coord.Delete("m")}})
		s.ok(err)
		if got.Revision < before {
			s.Fatalf("refused at revision %d after %d was seen", got.Revision, before)
		}
		s.equal("refused transaction", got, coord.Result{Revision: got.Revision, Found: found})
		es, _ := s.list(a, "")
		s.equal("number of entries", len(es), 2)
	}
	k := coord.Entry{Key: "k", Value: []byte("1"), Revision: r}
	l := coord.Entry{Key: "l"}
	refused([]coord.Compare{coord.IfAbsent("k")}, k)
	refused([]coord.Compare{coord.IfRevision("k", r-1)}, k)
	refused([]coord.Compare{coord.IfRevision("k", r+1000)}, k)
	refused([]coord.Compare{coord.IfRevision("l", r)}, l)
	refused([]coord.Compare{coord.IfAbsent("l"), coord.IfAbsent("k")}, l, k)
	refused([]coord.Compare{coord.IfRevision("k", r), coord.IfRevision("l", r)}, k, l)

	// A lease that is not there is no matter if nothing is done.
	got, err := a.Txn(s.ctx(), coord.Txn{If: []coord.Compare{coord.IfRevision("l", r)}, Then: []coord.Op{coord.PutLeased(1<<40, "n", nil)}})
	s.ok(err)
	s.equal("done", got.Done, false)

	// What changes nothing has no revision of its own.
	_, before := s.get(a, "k")
	for _, ops := range [][]coord.Op{nil, {coord.Delete("absent")}} {
		if r := s.txn(a, []coord.Compare{coord.IfRevision("k", r)}, ops...); r < before {
			s.Fatalf("nothing was changed at revision %d, after %d", r, before)
		}
	}
	after := s.put(b, "end")
	changes := s.watch(a, "", r, "end")
	s.equal("number of changes", len(changes), 2)
	s.equal("the last one", changes[1].Revision, after)

	// The same value again is a change.
	again := s.put(b, "end")
	if again <= after {
		s.Fatalf("the second put is at revision %d, the first at %d", again, after)
	}
}

func (s *suite) ownership() {
	store := s.join()
	value := []byte("abc")
	r := s.txn(store, nil, coord.Put("k", value))
	value[0] = 'X'
	want := []byte("abc")
	for range 2 {
		e, _ := s.get(store, "k")
		s.equal("got", e.Value, want)
		e.Value[1] = 'X'
		es, _ := s.list(store, "k")
		s.equal("listed", es[0].Value, want)
		es[0].Value[1] = 'X'
		cs := s.watch(store, "k", r-1, "k")
		s.equal("watched", cs[0].Events[0].Value, want)
		cs[0].Events[0].Value[1] = 'X'
		found, err := store.Txn(s.ctx(), coord.Txn{If: []coord.Compare{coord.IfAbsent("k")}})
		s.ok(err)
		s.equal("found", found.Found[0].Value, want)
		found.Found[0].Value[1] = 'X'
	}
}

func (s *suite) limits() {
	store := s.join()
	long := strings.Repeat("k", coord.MaxKey)
	big := bytes.Repeat([]byte{7}, coord.MaxValue)
	var many []coord.Op
	var compares []coord.Compare
	for i := range coord.MaxOps {
		many = append(many, coord.Put(fmt.Sprintf("many/%03d", i), nil))
		compares = append(compares, coord.IfAbsent(fmt.Sprintf("many/%03d", i)))
	}
	s.txn(store, compares, many...)
	s.txn(store, nil, coord.Put(long, big))
	var size int
	var huge []coord.Op
	for i := 0; size < coord.MaxTxn; i++ {
		op := coord.Put(fmt.Sprintf("huge/%d", i), nil)
		op.Value = big[:min(len(big), coord.MaxTxn-size-len(op.Key))]
		size += len(op.Key) + len(op.Value)
		huge = append(huge, op)
	}
	r := s.txn(store, nil, huge...)
	e, _ := s.get(store, long)
	s.equal("the biggest entry", len(e.Value), len(big))
	es, _ := s.list(store, "")
	s.equal("number of entries", len(es), len(many)+1+len(huge))
	s.equal("size of a change", len(s.watch(store, "huge/", r-1, "huge/0")[0].Events), len(huge))

	for what, err := range s.beyond(store, long, big, many, huge) {
		if !errors.Is(err, coord.ErrInvalid) {
			s.Errorf("%s: %v, want ErrInvalid", what, err)
		}
	}
	es, _ = s.list(store, "")
	s.equal("number of entries after all that was refused", len(es), len(many)+1+len(huge))
}

// beyond returns the errors of calls with arguments that are not valid.
func (s *suite) beyond(store coord.Store, long string, big []byte, many, huge []coord.Op) map[string]error {
	ctx, errs := s.ctx(), map[string]error{}
	txn := func(what string, ifs []coord.Compare, ops ...coord.Op) {
		_, errs[what] = store.Txn(ctx, coord.Txn{If: ifs, Then: ops})
	}
	for _, key := range []string{"", long + "k", "a b", "a\x00", "\x7f", "ä"} {
		_, _, errs["get "+key] = store.Get(ctx, key)
		txn("put "+key, nil, coord.Put(key, nil))
		txn("compare "+key, []coord.Compare{coord.IfAbsent(key)}, coord.Put("x", nil))
		if key != "" {
			_, _, errs["list "+key] = store.List(ctx, key)
			for _, err := range store.Watch(ctx, key, 0) {
				errs["watch "+key] = err
			}
		}
	}
	for _, err := range store.Watch(ctx, "", -1) {
		errs["watch after a negative revision"] = err
	}
	txn("value", nil, coord.Put("x", append(big, 0)))
	txn("operations", nil, append(many, coord.Put("x", nil))...)
	txn("size", nil, append(huge, coord.Put("x", nil))...)
	txn("twice", nil, coord.Put("x", nil), coord.Delete("x"))
	txn("compared twice", []coord.Compare{coord.IfAbsent("x"), coord.IfAbsent("x")}, coord.Put("x", nil))
	txn("negative", []coord.Compare{coord.IfRevision("x", -1)}, coord.Put("x", nil))
	txn("negative lease", nil, coord.PutLeased(-1, "x", nil))
	txn("delete with a value", nil, coord.Op{Key: "x", Value: []byte{1}, Delete: true})
	for _, ttl := range []time.Duration{-1, 0, coord.MinTTL - 1, coord.MaxTTL + 1} {
		_, _, errs["grant "+ttl.String()] = store.Grant(ctx, ttl)
	}
	return errs
}

// calls are all methods of a store that may wait.
func calls(ctx context.Context, store coord.Store, id coord.LeaseID) map[string]error {
	errs := map[string]error{}
	_, _, errs["Get"] = store.Get(ctx, "k")
	_, _, errs["List"] = store.List(ctx, "k")
	_, errs["Txn"] = store.Txn(ctx, coord.Txn{Then: []coord.Op{coord.Put("never", nil)}})
	_, _, errs["Grant"] = store.Grant(ctx, time.Minute)
	_, errs["Renew"] = store.Renew(ctx, id)
	errs["Revoke"] = store.Revoke(ctx, id)
	for _, err := range store.Watch(ctx, "k", 0) {
		errs["Watch"] = err
	}
	return errs
}

func (s *suite) cancel() {
	store, other := s.join(), s.join()
	id, _, err := store.Grant(s.ctx(), time.Minute)
	s.ok(err)
	why := errors.New("because")
	ctx, cancel := context.WithCancelCause(s.Context())
	cancel(why)
	for what, err := range calls(ctx, store, id) {
		if !errors.Is(err, why) {
			s.Errorf("%s: %v, want the cause", what, err)
		}
	}

	// The same while the store cannot be reached.
	s.Cut(store, true, true)
	ctx, stop := context.WithTimeoutCause(s.Context(), 50*time.Millisecond, why)
	defer stop()
	if _, _, err := store.Get(ctx, "k"); !errors.Is(err, why) {
		s.Errorf("Get without a network: %v, want the cause", err)
	}
	if _, err := store.Renew(ctx, id); !errors.Is(err, why) {
		s.Errorf("Renew without a network: %v, want the cause", err)
	}
	s.Cut(store, false, false)
	s.put(store, "works")
	e, _ := s.get(other, "never")
	s.equal("revision of what was cancelled before", e.Revision, coord.Revision(0))
}

func (s *suite) close() {
	store, other := s.join(), s.join()
	lease, err := coord.NewLease(s.ctx(), store, s.TTL)
	s.ok(err)
	r := s.txn(store, nil, coord.PutLeased(lease.ID(), "leased", nil))
	ended := make(chan struct{})
	s.work.Go(func() {
		defer close(ended)
		for _, err := range store.Watch(s.ctx(), "k", r) {
			if !errors.Is(err, coord.ErrClosed) {
				s.Errorf("a watch ended with %v, want ErrClosed", err)
			}
		}
	})
	s.ok(store.Close())
	begin := time.Now()
	for what, err := range calls(s.ctx(), store, lease.ID()) {
		if !errors.Is(err, coord.ErrClosed) {
			s.Errorf("%s: %v, want ErrClosed", what, err)
		}
	}
	if took := time.Since(begin); took > 3*time.Second {
		s.Errorf("calls of a closed store took %v", took)
	}
	if err := store.Close(); !errors.Is(err, coord.ErrClosed) {
		s.Errorf("a second Close: %v, want ErrClosed", err)
	}
	s.soon("the end of a watch of a closed store", ended)

	// The lease is not revoked, but nobody keeps it.
	s.soon("the loss of a lease of a closed store", lease.Lost())
	if err := lease.Err(); !errors.Is(err, coord.ErrLeaseLost) {
		s.Errorf("the lease of a closed store: %v", err)
	}
	s.deleted(other, "leased", r)
}
