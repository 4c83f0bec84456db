package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// echo puts a load on the server of the limit row.
func (l *lab) echo(ctx context.Context, r *running, ld load) (figure, int64, error) {
	type result struct {
		lats []time.Duration
		err  error
	}
	length := time.Duration(l.o.seconds) * time.Second
	results := make(chan result)
	start := time.Now()
	for range ld.conns {
		go func() {
			c, err := l.dialEcho(ctx, r.place)
			if err != nil {
				results <- result{err: err}
				return
			}
			defer c.Close()
			lats, err := echoClient(c, ld, length)
			results <- result{lats, err}
		}()
	}
	var lats []time.Duration
	var err error
	for range ld.conns {
		one := <-results
		lats, err = append(lats, one.lats...), errors.Join(err, one.err)
	}
	took := time.Since(start)
	n := len(lats)
	if err == nil && n == 0 {
		err = errors.New("no reply")
	}
	if err != nil {
		return figure{}, 0, err
	}
	slices.Sort(lats)
	return figure{iops: float64(n) / took.Seconds(), p50: lats[n/2], p99: lats[n*99/100]}, int64(n), nil
}

func (l *lab) dialEcho(ctx context.Context, p place) (net.Conn, error) {
	var d net.Dialer
	network, address := p.address()
	c, err := d.DialContext(ctx, network, address)
	if err != nil || p.transport != overTLS {
		return c, err
	}
	pem, err := os.ReadFile(filepath.Join(l.certs, "ca-cert.pem"))
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.Join(fmt.Errorf("no certificate in %s", l.certs), c.Close())
	}
	return tls.Client(newGather(c), &tls.Config{RootCAs: roots, ServerName: "localhost", DynamicRecordSizingDisabled: true}), nil
}

// echoClient keeps ld.depth messages in flight for a while, and returns how long
// each took. As libnbd does it sends every message with a call of its own and
// takes as many replies at once as there are.
func echoClient(c net.Conn, ld load, length time.Duration) ([]time.Duration, error) {
	up, down := 0, ld.bs
	if strings.Contains(ld.rw, "write") {
		up, down = ld.bs, 0
	}
	var head [8]byte
	binary.BigEndian.PutUint32(head[:], uint32(up))
	binary.BigEndian.PutUint32(head[4:], uint32(down))
	if _, err := c.Write(head[:]); err != nil {
		return nil, err
	}
	message, answer := make([]byte, echoRequest+up), echoReply+down
	in := make([]byte, max(echoGulp, answer))
	lats := make([]time.Duration, 0, 1<<20)
	sent := make([]time.Time, 0, ld.depth) // a ring, the oldest at next
	next, have := 0, 0
	end := time.Now().Add(length)
	for len(sent) < ld.depth {
		sent = append(sent, time.Now())
		if _, err := c.Write(message); err != nil {
			return nil, err
		}
	}
	for flying := ld.depth; flying > 0; {
		n, err := c.Read(in)
		if err != nil {
			return nil, err
		}
		for have += n; have >= answer; have -= answer {
			now := time.Now()
			lats = append(lats, now.Sub(sent[next]))
			if sent[next] = now; now.After(end) {
				flying--
			} else if _, err := c.Write(message); err != nil {
				return nil, err
			}
			next = (next + 1) % ld.depth
		}
	}
	return lats, nil
}
