package nbd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// silentPlace is how long one of several servers may take to be connected
	// to, and to say who it is.
	silentPlace = 3 * time.Second
	// maxPlaces bounds Dialer.Addresses.
	maxPlaces = 1024
)

// places are the addresses where a disk is. Their methods may be called of nil, which is
// one place.
type places struct {
	list []string

	mu sync.Mutex
	at int // the one in use counts up
}

func (d *Dialer) newPlaces(u *URI) (*places, error) {
	switch n := len(d.Addresses); {
	case n == 0:
		return nil, nil
	case n > maxPlaces:
		return nil, fmt.Errorf("nbd: %d addresses, at most %d are allowed", n, maxPlaces)
	case u.Transport != TCP:
		return nil, fmt.Errorf("nbd: addresses are given for %s, which is no URI for TCP", u)
	}
	p := &places{}
	for _, text := range d.Addresses {
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			host, port = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), defaultPort
			err = nil
			if strings.Contains(text, ":") && host == text {
				err = errors.New("too many colons")
			}
		}
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
			return nil, fmt.Errorf("nbd: the address %.200q: want HOST or HOST:PORT, an IPv6 address in brackets", text)
		}
		p.list = append(p.list, net.JoinHostPort(host, port))
	}
	return p, nil
}

// now is the place in use.
func (p *places) now() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list[p.at%len(p.list)]
}

// number is that of the place in use.
func (p *places) number() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

// leave makes the next place the one in use, if nobody else has done so.
func (p *places) leave(at int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at == at {
		p.at++
	}
}

var errNoGreeting = fmt.Errorf("it says nothing for %v", silentPlace)

// expectGreeting calls cancel if the function that it returns is not called soon.
func (p *places) expectGreeting(cancel context.CancelCauseFunc) (greeted func()) {
	if p == nil {
		return func() {}
	}
	t := time.AfterFunc(silentPlace, func() { cancel(errNoGreeting) })
	return func() { t.Stop() }
}

// connectSomewhere tries one place after the other, each once.
func (t *target) connectSomewhere(ctx context.Context) (*wire, error) {
	var errs []error
	for range t.places.list {
		at, address := t.places.number(), t.places.now()
		w, err := t.connectHere(ctx)
		if err == nil {
			w.place = at
			return w, nil
		}
		t.places.leave(at)
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// watch lets a connection fail on which nothing is answered. It ends when the function
// that it returns is called.
func (l *lane) watch(w *wire) (stop func()) {
	limit := l.c.target.Silence
	if limit == 0 {
		return func() {}
	}
	const looks = 4
	done := make(chan struct{})
	go func() {
		t := time.NewTicker(max(limit/looks, time.Millisecond))
		defer t.Stop()
		heard, silent := int64(0), 0
		for {
			select {
			case <-t.C:
			case <-done:
				return
			}
			now := w.heard.Load()
			if silent++; now != heard || l.load.Load() == 0 {
				heard, silent = now, 0
			}
			if silent > looks {
				w.fail(fmt.Errorf("the server has answered nothing for %v", limit))
				return
			}
		}
	}()
	return func() { close(done) }
}
