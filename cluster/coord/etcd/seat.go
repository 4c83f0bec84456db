package etcd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"

	"github.com/strata-storage/strata/cluster/coord/etcd/voters"
)

// A Seat is where a node has its member, if it is to have one. Members of a node come
// one after the other, each with an ID of its own: data of an older one are of no use
// to a newer one, and must never be taken for it.
type Seat struct {
	o  ServerOptions
	mu sync.Mutex
	// member is the one that runs, if any; id is that of the data, 0 if there are none.
	member *Server
	id     uint64
}

// NewSeat returns the seat of a node in a directory. The options are what its members
// have in common, one URL for peers among it, or none if nobody is to join.
func NewSeat(o ServerOptions) (*Seat, error) {
	if o.Join || o.Recover || len(o.Members) > 0 || len(o.peers()) > 1 {
		return nil, errors.New("etcd: the options of a seat have one peer URL or none, and are not to tell how a member begins")
	}
	s := &Seat{o: o}
	text, err := os.ReadFile(s.idFile())
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		s.id, err = strconv.ParseUint(strings.TrimSpace(string(text)), 16, 64)
	}
	if err != nil {
		return nil, fmt.Errorf("etcd: which member has its data in %s: %w", o.Dir, err)
	}
	return s, nil
}

func (s *Seat) idFile() string  { return filepath.Join(s.o.Dir, "id") }
func (s *Seat) dataDir() string { return filepath.Join(s.o.Dir, "etcd") }

// Found begins a cluster with a member here. That is for one node, once.
func (s *Seat) Found(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id != 0 {
		return fmt.Errorf("etcd: the member %x has its data in %s already", s.id, s.o.Dir)
	}
	if err := s.clear(); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	if err := s.start(ctx, s.o); err != nil {
		return err
	}
	return s.note(uint64(s.member.etcd.Server.MemberID()))
}

// Resume starts the member that has its data here, and tells whether there is one. It
// fails if that was removed meanwhile; Follow knows what to do then.
func (s *Seat) Resume(ctx context.Context) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.member != nil {
		return true, nil
	}
	// Without a log etcd would begin a cluster.
	if _, err := os.Stat(filepath.Join(s.dataDir(), "member", "wal")); s.id == 0 || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return true, s.start(ctx, s.o)
}

// Follow does what the record of package voters says: it starts a member, or stops
// the one there is and deletes its data. The record must be the latest one, not one of
// those before it: what it does not name is gone for good.
func (s *Seat) Follow(ctx context.Context, r voters.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, wanted := r.Of(s.node())
	if err := s.drop(r); err != nil {
		return err
	}
	if !wanted || s.member != nil {
		return nil
	}
	if s.id == 0 {
		if err := s.clear(); err != nil {
			return fmt.Errorf("etcd: %w", err)
		}
		if err := s.note(m.ID); err != nil {
			return err
		}
	}
	o := s.o
	o.Join, o.Members = true, map[string][]string{o.Name: m.PeerURLs}
	for _, other := range r.Members {
		if other.ID != m.ID {
			o.Members[other.Name] = other.PeerURLs
		}
	}
	return s.start(ctx, o)
}

// Drop is the first half of Follow: it deletes the data of a member that is not named any
// more.
func (s *Seat) Drop(r voters.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drop(r)
}

func (s *Seat) drop(r voters.Record) error {
	m, wanted := r.Of(s.node())
	if s.id == 0 || wanted && s.id == m.ID {
		return nil
	}
	if err := s.leave(); err != nil {
		return fmt.Errorf("etcd: deleting the data of a member that was removed: %w", err)
	}
	return nil
}

// node is that of the seat.
func (s *Seat) node() voters.Node {
	n := voters.Node{Name: s.o.Name}
	if urls := s.o.peers(); len(urls) > 0 {
		n.PeerURL = urls[0]
	}
	return n
}

// Names tells whether a record has the member whose data are here.
func (s *Seat) Names(r voters.Record) bool {
	m, ok := r.Of(s.node())
	s.mu.Lock()
	defer s.mu.Unlock()
	return ok && s.id == m.ID
}

// Has tells whether a record gives a vote to the member that runs here.
func (s *Seat) Has(r voters.Record) bool {
	m, ok := r.Of(s.node())
	s.mu.Lock()
	defer s.mu.Unlock()
	return ok && !m.Learner && s.member != nil && s.id == m.ID
}

// Learns tells whether the member that runs here has no vote yet: it answers no questions.
func (s *Seat) Learns() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.member != nil && s.member.etcd.Server.IsLearner()
}

// Well tells whether a member runs here and knows a leader.
func (s *Seat) Well() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.member == nil {
		return false
	}
	select {
	case <-s.member.Done():
		return false
	default:
		return s.member.Led()
	}
}

// Gone returns a channel that is closed when the member that runs here has ended by itself, as
// it was removed from the cluster; nil if none runs.
func (s *Seat) Gone() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.member == nil {
		return nil
	}
	return s.member.Done()
}

// Announce tells the other members where they find this one, if that has changed since
// it was there the last time. It needs a leader.
func (s *Seat) Announce(ctx context.Context) error {
	s.mu.Lock()
	m, id := s.member, s.id
	s.mu.Unlock()
	if m == nil || len(s.o.peers()) == 0 {
		return nil
	}
	server := m.etcd.Server
	is := server.Cluster().Member(types.ID(id))
	if is == nil || slices.Equal(is.PeerURLs, s.o.peers()) {
		return nil
	}
	now := membership.Member{ID: types.ID(id), RaftAttributes: membership.RaftAttributes{PeerURLs: s.o.peers(), IsLearner: is.IsLearner}}
	if _, err := server.UpdateMember(ctx, now); err != nil {
		return fmt.Errorf("etcd: telling the other members that this one is at %s: %w", s.o.peers()[0], err)
	}
	return nil
}

// jump is how far Recover advances the revision: beyond all that members which are lost
// may have told their clients and this one has not.
const jump = 10_000

// Recover makes a cluster of the member alone that has its data here, as ServerOptions
// says, and it runs then. Clients that have seen more than this member knew see that
// their copies are of no use: the revision jumps, and all before is compacted.
func (s *Seat) Recover(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id == 0 {
		return errors.New("etcd: no member has data here, there is nothing to recover from")
	}
	if s.member != nil {
		s.member.Abort()
		s.member = nil
	}
	o := s.o
	o.Recover = true
	if err := s.start(ctx, o); err != nil {
		return err
	}
	server := s.member.etcd.Server
	var jumping sync.WaitGroup
	errs := make([]error, 100)
	for i := range errs {
		jumping.Go(func() {
			for n := 0; n < jump/len(errs) && errs[i] == nil; n++ {
				_, errs[i] = server.Put(ctx, &pb.PutRequest{Key: []byte("recovered")})
			}
		})
	}
	jumping.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("etcd: advancing the revision: %w", err)
	}
	if _, err := server.Compact(ctx, &pb.CompactionRequest{Revision: server.KV().Rev()}); err != nil {
		return fmt.Errorf("etcd: compacting what was before: %w", err)
	}
	return nil
}

// Used tells whether the data of a member are here.
func (s *Seat) Used() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id != 0
}

// Abort ends the member like a crash.
func (s *Seat) Abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.member != nil {
		s.member.Abort()
		s.member = nil
	}
}

func (s *Seat) start(ctx context.Context, o ServerOptions) (err error) {
	s.member, err = Start(ctx, o)
	return err
}

// note writes whose the data are, before there are any.
func (s *Seat) note(id uint64) error {
	if err := writeFile(s.idFile(), fmt.Sprintf("%x\n", id)); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	s.id = id
	return nil
}

// leave deletes the data of the member. First it is noted that they are of nobody.
func (s *Seat) leave() error {
	if s.member != nil {
		s.member.Close()
		s.member = nil
	}
	if err := os.Remove(s.idFile()); err != nil {
		return err
	}
	s.id = 0
	if err := syncDir(s.o.Dir); err != nil {
		return err
	}
	return s.clear()
}

// clear deletes data that are of nobody: the end of that, or of founding, was not
// reached. Another process may be here, too.
func (s *Seat) clear() error {
	lock, err := lockDir(s.o.Dir)
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(s.dataDir()), lock.Close())
}

// Close stops the member, which Resume may start again.
func (s *Seat) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.member != nil {
		s.member.Close()
		s.member = nil
	}
}

// Endpoint is that of the socket of the member, for Dial, empty if none runs.
func (s *Seat) Endpoint() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.member == nil {
		return ""
	}
	return s.member.Endpoint()
}

// writeFile makes a file that is durable, as a whole.
func writeFile(path, text string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
