package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The limit row: messages of the same sizes over the same kind of socket, with
// nothing done to them. The server reads whatever has come and answers all of
// it with one write; the client keeps as many requests in flight as fio does.

// limitName is the name of the limit among the servers of a row.
const limitName = "bare echo"

// echoCommand makes this program the server of the limit row.
const echoCommand = "-echo-server"

const (
	echoRequest = 28
	echoReply   = 16
)

// serveEcho serves connections to a Unix socket until the program is killed, or
// something fails.
// The first message of a connection holds the sizes of the payloads.
func serveEcho(socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go echoConn(c)
	}
}

func echoConn(c net.Conn) {
	defer c.Close()
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return
	}
	ask := echoRequest + int(binary.BigEndian.Uint32(head[:]))
	answer := echoReply + int(binary.BigEndian.Uint32(head[4:]))
	in := make([]byte, max(256<<10, ask))
	out := make([]byte, max(256<<10, answer))
	have := 0
	for {
		n, err := c.Read(in[have:])
		if err != nil {
			return
		}
		have += n
		whole := have / ask
		have -= whole * ask // what the messages hold does not matter
		for whole > 0 {
			k := min(whole, len(out)/answer)
			if _, err := c.Write(out[:k*answer]); err != nil {
				return
			}
			whole -= k
		}
	}
}

// echo measures the limit for a load.
func (l *lab) echo(ctx context.Context, ld load) (figure, error) {
	self, err := os.Executable()
	if err != nil {
		return figure{}, err
	}
	l.count++
	socket := filepath.Join(l.o.dir, "echo"+strconv.Itoa(l.count))
	cmd := exec.CommandContext(ctx, self, echoCommand, socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return figure{}, err
	}
	defer os.Remove(socket)
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var c net.Conn
	for range 500 {
		if c, err = net.Dial("unix", socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return figure{}, err
	}
	defer c.Close()
	f, total, err := echoClient(c, ld, time.Duration(l.o.seconds)*time.Second)
	if err != nil {
		return figure{}, err
	}
	u, err := groupUsage(cmd.Process.Pid)
	if err != nil {
		return figure{}, err
	}
	f.cpu, f.peak = u.cpu/time.Duration(max(total, 1)), u.peak
	return f, nil
}

// echoClient keeps ld.depth messages in flight for a while.
func echoClient(c net.Conn, ld load, length time.Duration) (figure, int, error) {
	up, down := 0, ld.bs
	if strings.Contains(ld.rw, "write") {
		up, down = ld.bs, 0
	}
	var head [8]byte
	binary.BigEndian.PutUint32(head[:], uint32(up))
	binary.BigEndian.PutUint32(head[4:], uint32(down))
	if _, err := c.Write(head[:]); err != nil {
		return figure{}, 0, err
	}
	message := make([]byte, echoRequest+up)
	reply := make([]byte, echoReply+down)
	in := bufio.NewReaderSize(c, 256<<10)
	sent := make(chan time.Time, ld.depth)
	slots := make(chan struct{}, ld.depth)
	lats := make([]time.Duration, 0, 1<<20)
	failed := make(chan error, 1)
	start := time.Now()
	go func() {
		defer close(sent)
		for time.Since(start) < length {
			slots <- struct{}{}
			sent <- time.Now()
			if _, err := c.Write(message); err != nil {
				failed <- err
				return
			}
		}
	}()
	for t := range sent {
		if _, err := io.ReadFull(in, reply); err != nil {
			return figure{}, 0, errors.Join(err, c.Close())
		}
		lats = append(lats, time.Since(t))
		<-slots
	}
	select {
	case err := <-failed:
		return figure{}, 0, err
	default:
	}
	took := time.Since(start)
	slices.Sort(lats)
	n := len(lats)
	if n == 0 {
		return figure{}, 0, errors.New("no reply")
	}
	return figure{iops: float64(n) / took.Seconds(), p50: lats[n/2], p99: lats[n*99/100]}, n, nil
}
