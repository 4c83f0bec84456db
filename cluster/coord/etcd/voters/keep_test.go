package voters_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/coord/etcd/voters"
	"github.com/strata-storage/strata/cluster/coord/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A cluster is one that only says what it would be. Learners start after a second
// and have caught up after three.
type cluster struct {
	mu      sync.Mutex
	members []voters.Member
	added   map[uint64]time.Time
	dead    map[string]bool
	broken  error
	log     []string
}

var errDead = errors.New("dead")

func (c *cluster) find(id uint64) *voters.Member {
	i := slices.IndexFunc(c.members, func(m voters.Member) bool { return m.ID == id })
	if i < 0 {
		return &voters.Member{}
	}
	return &c.members[i]
}

func (c *cluster) Members(context.Context) ([]voters.Member, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.members), c.broken
}

func (c *cluster) Check(_ context.Context, m voters.Member) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := strings.TrimPrefix(m.PeerURLs[0], "http://")
	if c.dead[name] || time.Since(c.added[m.ID]) < time.Second {
		return errDead
	}
	c.find(m.ID).Name = name
	return nil
}

func (c *cluster) AddLearner(_ context.Context, url string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, "add "+url)
	id := uint64(len(c.added) + 10)
	c.added[id] = time.Now()
	c.members = append(c.members, voters.Member{ID: id, PeerURLs: []string{url}, Learner: true})
	return nil
}

func (c *cluster) Promote(_ context.Context, id uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.added[id]) < 3*time.Second {
		return voters.ErrNotReady
	}
	m := c.find(id)
	c.log = append(c.log, "promote "+m.Name)
	m.Learner = false
	return nil
}

func (c *cluster) Remove(_ context.Context, id uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, "remove "+c.find(id).Name)
	c.members = slices.DeleteFunc(c.members, func(m voters.Member) bool { return m.ID == id })
	return nil
}

// did returns what was done since the last call.
func (c *cluster) did() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := strings.Join(c.log, ", ")
	c.log = nil
	return strings.ReplaceAll(s, "http://", "")
}

func (c *cluster) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The keeper carries out what was decided, with time between a death and its
// consequences, and ends with its leadership.
func TestKeep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewServer(memory.Options{}).Client(memory.ClientOptions{})
		defer store.Close()
		lease, err := coord.NewLease(t.Context(), store, 10*time.Second)
		ok(t, err)
		lead, err := coord.Elect(t.Context(), lease, "keeper", nil)
		ok(t, err)
		c := &cluster{added: map[uint64]time.Time{}, dead: map[string]bool{}}
		c.members = []voters.Member{{ID: 1, Name: "a", PeerURLs: []string{"http://a"}}}
		ended := make(chan error, 1)
		var nodes []voters.Node
		for _, name := range []string{"a", "b", "c", "d"} {
			nodes = append(nodes, voters.Node{Name: name, PeerURL: "http://" + name, Zone: name})
		}
		go func() {
			ended <- voters.Keep(t.Context(), lead, voters.Options{Cluster: c, Store: store, Key: "voters", Nodes: func(context.Context) ([]voters.Node, error) {
				c.mu.Lock()
				defer c.mu.Unlock()
				for i := range nodes {
					nodes[i].Alive = !c.dead[nodes[i].Name]
				}
				return slices.Clone(nodes), nil
			}})
		}()
		after := func(d time.Duration, want string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := c.did(); got != want {
				t.Errorf("it did %q, want %q", got, want)
			}
		}
		after(30*time.Second, "add b, add c, promote b, promote c")
		names(t, store, "a b c")

		// A short silence is none; a long one is.
		c.set(func() { c.dead["b"] = true })
		after(25*time.Second, "")
		c.set(func() { c.dead["b"] = false })
		after(20*time.Second, "")
		c.set(func() { c.dead["b"] = true })
		after(29*time.Second, "")
		after(20*time.Second, "add d, promote d, remove b")
		names(t, store, "a c d")

		// What cannot be done is tried again.
		c.set(func() { c.dead["c"], c.dead["b"], c.broken = true, false, errors.New("broken") })
		after(time.Minute, "")
		c.set(func() { c.broken = nil })
		after(time.Minute, "add b, promote b, remove c")

		// Who does not lead any more does nothing.
		c.set(func() { c.dead["c"], c.dead["d"] = false, true })
		ok(t, lead.Resign(t.Context()))
		if err := <-ended; !errors.Is(err, coord.ErrNotLeader) {
			t.Errorf("it ended with %v", err)
		}
		after(time.Hour, "")
		ok(t, lease.Revoke(t.Context()))
	})
}

// names checks who is in the record.
func names(t *testing.T, store coord.Store, want string) {
	t.Helper()
	e, _, err := store.Get(t.Context(), "voters")
	ok(t, err)
	r, err := voters.ParseRecord(e.Value)
	ok(t, err)
	var all []string
	for _, m := range r.Members {
		all = append(all, m.Name)
	}
	if got := strings.Join(all, " "); got != want {
		t.Errorf("the record has %s, want %s", got, want)
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	r, err := voters.ParseRecord([]byte(`{"members":[{"id":1,"name":"a","peers":["http://a"],"clients":["http://a:1"]},{"id":18446744073709551615,"peers":["http://b"],"learner":true}]}`))
	ok(t, err)
	if got := fmt.Sprint(r.Endpoints()); got != "[http://a:1]" || r.Members[1].ID != 1<<64-1 {
		t.Errorf("%+v has the endpoints %s", r, got)
	}
	if _, err := voters.ParseRecord([]byte("{")); err == nil || !strings.Contains(err.Error(), "the record of members") {
		t.Errorf("a record that is cut: %v", err)
	}
}
