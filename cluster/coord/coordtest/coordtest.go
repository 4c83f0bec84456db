// Package coordtest is the proof that a [coord.Store] keeps what package coord
// promises.
package coordtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-storage/strata/block/blocktest"
	"github.com/strata-storage/strata/cluster/coord"
)

// A System is one new agreed state, with the means to do harm to it.
type System struct {
	// Join returns the store of one more client. The suite closes it.
	Join func() coord.Store
	// Cut loses or holds up what goes from the client of a store to the servers
	// and back, until it is called with false.
	Cut func(s coord.Store, requests, replies bool)
	// Compact lets all changes until now be forgotten. Suites on the same
	// servers must not run at that time.
	Compact func()
	// TTL is the shortest time to live that leases can have.
	TTL time.Duration
}

// Options say how to run the suite.
type Options struct {
	// Simulated runs each case, with the System of its own, in a bubble of
	// testing/synctest: nothing in it needs real time. Otherwise there are fewer
	// rounds.
	Simulated bool
}

// Run runs the suite for the systems that open makes; each goes with its test.
func Run(t *testing.T, o Options, open func(t *testing.T) System) {
	run := func(t *testing.T, test func(*suite)) {
		body := func(t *testing.T) {
			s := &suite{T: t, System: open(t), slow: !o.Simulated}
			t.Cleanup(s.finish)
			test(s)
		}
		if o.Simulated {
			synctest.Test(t, body)
		} else {
			body(t)
		}
	}
	t.Run("Compact", func(t *testing.T) { run(t, (*suite).compact) })
	for name, test := range map[string]func(*suite){
		"Entries":         (*suite).entries,
		"Transactions":    (*suite).transactions,
		"Ownership":       (*suite).ownership,
		"Limits":          (*suite).limits,
		"Cancel":          (*suite).cancel,
		"Close":           (*suite).close,
		"WatchOrder":      (*suite).watchOrder,
		"WatchEnds":       (*suite).watchEnds,
		"WatchMuch":       (*suite).watchMuch,
		"WatchCut":        (*suite).watchCut,
		"LeaseExpires":    (*suite).leaseExpires,
		"LeaseKept":       (*suite).leaseKept,
		"LeaseRevoked":    (*suite).leaseRevoked,
		"LeaseMoves":      (*suite).leaseMoves,
		"LeaseDoubt":      (*suite).leaseDoubt,
		"LeaseLost":       (*suite).leaseLost,
		"ElectOne":        (*suite).electOne,
		"ElectForced":     (*suite).electForced,
		"ElectRefused":    (*suite).electRefused,
		"ElectMany":       (*suite).electMany,
		"Histories":       (*suite).histories,
		"HistoriesFaults": (*suite).historiesFaults,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, test)
		})
	}
}

// patience is far more than anything takes, on a machine that stands still for a
// while, too.
const patience = 3 * time.Minute

type suite struct {
	*testing.T
	System
	slow   bool
	mu     sync.Mutex
	stores []coord.Store
	work   sync.WaitGroup
}

// join returns the store of one more client.
func (s *suite) join() coord.Store {
	store := s.Join()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stores = append(s.stores, store)
	return store
}

func (s *suite) finish() {
	for _, store := range s.stores {
		s.Cut(store, false, false)
		if err := store.Close(); err != nil && err != coord.ErrClosed {
			s.Errorf("Close: %v", err)
		}
	}
	s.work.Wait()
}

// ctx is a context that ends when something takes too long.
func (s *suite) ctx() context.Context {
	ctx, cancel := context.WithTimeoutCause(s.Context(), patience, fmt.Errorf("it took more than %v", patience))
	s.Cleanup(cancel)
	return ctx
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) equal(what string, got, want any) {
	s.Helper()
	if !reflect.DeepEqual(got, want) {
		s.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// txn does a transaction that must be done, and returns its revision.
func (s *suite) txn(store coord.Store, ifs []coord.Compare, ops ...coord.Op) coord.Revision {
	s.Helper()
	r, err := store.Txn(s.ctx(), coord.Txn{If: ifs, Then: ops})
	s.ok(err)
	if !r.Done || r.Found != nil {
		s.Fatalf("transaction %v %v: %+v", ifs, ops, r)
	}
	return r.Revision
}

// put puts entries with their keys as values.
func (s *suite) put(store coord.Store, keys ...string) coord.Revision {
	s.Helper()
	var ops []coord.Op
	for _, key := range keys {
		ops = append(ops, coord.Put(key, []byte(key)))
	}
	return s.txn(store, nil, ops...)
}

func (s *suite) get(store coord.Store, key string) (coord.Entry, coord.Revision) {
	s.Helper()
	e, r, err := store.Get(s.ctx(), key)
	s.ok(err)
	return e, r
}

func (s *suite) list(store coord.Store, prefix string) ([]coord.Entry, coord.Revision) {
	s.Helper()
	es, r, err := store.List(s.ctx(), prefix)
	s.ok(err)
	return es, r
}

// watch returns the changes of a watch until one has an event of the key last.
func (s *suite) watch(store coord.Store, prefix string, after coord.Revision, last string) (all []coord.Change) {
	s.Helper()
	for c, err := range store.Watch(s.ctx(), prefix, after) {
		s.ok(err)
		all = append(all, c)
		for _, e := range c.Events {
			if e.Key == last {
				return all
			}
		}
	}
	s.Fatal("a watch ended without an error")
	return nil
}

// watching is watch in the background. It yields nothing if that fails.
func (s *suite) watching(store coord.Store, prefix string, after coord.Revision, last string) <-chan []coord.Change {
	got := make(chan []coord.Change, 1)
	s.work.Go(func() {
		defer close(got)
		got <- s.watch(store, prefix, after, last)
	})
	return got
}

// deleted waits until a key has been deleted after that revision, and returns the
// change.
func (s *suite) deleted(store coord.Store, key string, after coord.Revision) coord.Change {
	s.Helper()
	for {
		all := s.watch(store, key, after, key)
		last := all[len(all)-1]
		if last.Events[0].Deleted {
			return last
		}
		after = last.Revision
	}
}

// soon waits for a channel.
func (s *suite) soon(what string, c <-chan struct{}) {
	s.Helper()
	select {
	case <-c:
	case <-s.ctx().Done():
		s.Fatalf("%s did not happen in %v", what, patience)
	}
}

// seeds calls f with sources of chance, see blocktest.Times.
func (s *suite) seeds(n int, f func(seed uint64, rnd *rand.Rand)) {
	s.Helper()
	for seed := range uint64(blocktest.Times(n)) {
		f(seed, rand.New(rand.NewPCG(seed, 0)))
	}
}
