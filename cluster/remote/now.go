package remote

import (
	"github.com/strata-storage/strata/cluster/replica"
	"github.com/strata-storage/strata/cluster/wire"
)

// attempted returns what tries to carry out requests of writers for who must not wait.
// Whatever is wrong with one is found out by the handler.
func (s *server) attempted(f func(j *job, p replica.Prompt) (done bool, err error)) func(r *wire.Request) (bool, error) {
	return func(r *wire.Request) (done bool, err error) {
		j := jobs.Get().(*job)
		defer func() {
			*j = job{}
			jobs.Put(j)
		}()
		j.r, j.in = r, reader{p: r.Head()}
		j.in.request(&j.q)
		if j.in.short || len(j.in.p) > 0 {
			return false, nil
		}
		p, ok := s.find(j.q.To.Disk).(replica.Prompt)
		if !ok {
			return false, nil
		}
		if done, err = f(j, p); err != nil {
			err = answer(r, err)
		}
		return done, err
	}
}

func readNow(j *job, p replica.Prompt) (done bool, err error) {
	b, err := j.r.Buffer(j.r.Room())
	if err != nil {
		return false, nil
	}
	return p.ReadNow(&j.q, b), nil
}

func writeNow(j *job, p replica.Prompt) (done bool, err error) {
	return p.WriteNow(&j.q, j.r.Payload())
}
