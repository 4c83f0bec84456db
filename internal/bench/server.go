package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A transport is how clients reach a server.
type transport int

const (
	overUnix transport = iota
	overTCP
	overTLS
)

// A server is a program that can be measured.
type server struct {
	name string
	// program is what must be installed.
	program string
	// file says that it serves the disk.
	file bool
	// memory says that it serves memory, which is filled from the image.
	memory bool
	// command is its command line in the foreground.
	command func(l *lab, p place) []string
	// export is the name under which it serves the disk.
	export string
	// daemon says that it goes into the background, leaving its process id
	// in a file.
	daemon bool
}

// A place is where a server listens and what it serves.
type place struct {
	transport transport
	socket    string // for overUnix
	port      int    // otherwise
	image     string
}

func (p place) uri(l *lab, export string) string {
	switch p.transport {
	case overUnix:
		return fmt.Sprintf("nbd+unix:///%s?socket=%s", export, p.socket)
	case overTCP:
		return fmt.Sprintf("nbd://127.0.0.1:%d/%s", p.port, export)
	}
	return fmt.Sprintf("nbds://localhost:%d/%s?tls-certificates=%s", p.port, export, l.certs)
}

// address is where clients connect to.
func (p place) address() (network, address string) {
	if p.transport == overUnix {
		return "unix", p.socket
	}
	return "tcp", fmt.Sprintf("127.0.0.1:%d", p.port)
}

var (
	strataMemory = server{name: "strata", memory: true, command: func(l *lab, p place) []string {
		return strataCommand(l, p, fmt.Sprintf("disk=mem(\"%dM\")", l.o.size))
	}, export: "disk"}
	strataFile = server{name: "strata", file: true, command: func(l *lab, p place) []string {
		return strataCommand(l, p, fmt.Sprintf("disk=file(%q)", p.image))
	}, export: "disk"}
	nbdkitMemory = server{name: "nbdkit", program: "nbdkit", memory: true, command: func(l *lab, p place) []string {
		return nbdkitCommand(l, p, "memory", fmt.Sprintf("%dM", l.o.size))
	}}
	nbdkitFile = server{name: "nbdkit", program: "nbdkit", file: true, command: func(l *lab, p place) []string {
		return nbdkitCommand(l, p, "file", p.image)
	}}
	qemuNBD   = server{name: "qemu-nbd", program: "qemu-nbd", file: true, command: qemuCommand}
	nbdServer = server{name: "nbd-server", program: "nbd-server", file: true, command: nbdServerCommand, export: "disk", daemon: true}
)

func strataCommand(l *lab, p place, disk string) []string {
	args := []string{l.o.strata, "serve", "--control", filepath.Join(l.run, fmt.Sprintf("control%d", p.port))}
	switch p.transport {
	case overUnix:
		args = append(args, "--listen", "unix://"+p.socket)
	case overTCP, overTLS:
		args = append(args, "--listen", fmt.Sprintf("tcp://127.0.0.1:%d", p.port))
	}
	if p.transport == overTLS {
		args = append(args, "--tls", "required", "--tls-cert", filepath.Join(l.certs, "server-cert.pem"),
			"--tls-key", filepath.Join(l.certs, "server-key.pem"))
	}
	return append(args, disk)
}

func nbdkitCommand(l *lab, p place, plugin ...string) []string {
	args := []string{"nbdkit", "-f"}
	switch p.transport {
	case overUnix:
		args = append(args, "-U", p.socket)
	case overTCP, overTLS:
		args = append(args, "-i", "127.0.0.1", "-p", strconv.Itoa(p.port))
	}
	if p.transport == overTLS {
		args = append(args, "--tls=require", "--tls-certificates="+l.certs)
	}
	return append(args, plugin...)
}

func qemuCommand(l *lab, p place) []string {
	args := []string{"qemu-nbd", "-t", "-e", "16"}
	switch p.transport {
	case overUnix:
		args = append(args, "-k", p.socket)
	case overTCP, overTLS:
		args = append(args, "-b", "127.0.0.1", "-p", strconv.Itoa(p.port))
	}
	if p.transport == overTLS {
		args = append(args, "--object", "tls-creds-x509,id=tls0,endpoint=server,verify-peer=off,dir="+l.certs, "--tls-creds", "tls0")
	}
	// Its locks would be in the way of the other servers of the same disk.
	return append(args, "--image-opts", "driver=raw,file.driver=file,file.locking=off,file.filename="+p.image)
}

// nbdServerCommand writes the configuration file that nbd-server insists on.
func nbdServerCommand(l *lab, p place) []string {
	conf := fmt.Sprintf("[generic]\n\tport = %d\n\tlistenaddr = 127.0.0.1\n\tallowlist = true\n", p.port)
	if p.transport == overUnix {
		conf += "\tunixsock = " + p.socket + "\n"
	}
	if p.transport == overTLS {
		conf += fmt.Sprintf("\tforce_tls = true\n\tcertfile = %[1]s/server-cert.pem\n\tkeyfile = %[1]s/server-key.pem\n\tcacertfile = %[1]s/ca-cert.pem\n", l.certs)
	}
	conf += fmt.Sprintf("[disk]\n\texportname = %s\n\tflush = true\n\tfua = true\n\ttrim = true\n", p.image)
	path := p.image + ".conf"
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		return []string{"false"}
	}
	return []string{"nbd-server", "-C", path, "-p", pidFile(p)}
}

func pidFile(p place) string { return p.image + ".pid" }

// A running server.
type running struct {
	server
	place place
	uri   string
	cmd   *exec.Cmd
	done  chan struct{} // closed when cmd has ended
	group int           // the process group that serves
}

// start starts a server and waits until it listens.
func (l *lab) start(ctx context.Context, s server, t transport) (*running, error) {
	l.count++
	p := place{transport: t, socket: filepath.Join(l.run, fmt.Sprintf("s%d", l.count)), port: l.freePort()}
	if s.file {
		p.image = filepath.Join(l.o.dir, fmt.Sprintf("disk%d.img", l.count))
		if err := os.Link(l.disk, p.image); err != nil {
			return nil, err
		}
	}
	args := s.command(l, p)
	r := &running{server: s, place: p, uri: p.uri(l, s.export), done: make(chan struct{})}
	r.cmd = exec.Command(args[0], args[1:]...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(l.run, fmt.Sprintf("log%d", l.count)))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	r.cmd.Stdout, r.cmd.Stderr = log, log
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	r.group = r.cmd.Process.Pid
	go func() {
		r.cmd.Wait()
		close(r.done)
	}()
	if s.daemon {
		<-r.done
		r.done = make(chan struct{})
		if r.group, err = daemonGroup(pidFile(p)); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if err := r.wait(ctx); err != nil {
		r.stop()
		text, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%s: %w: %s", s.name, err, text)
	}
	return r, nil
}

// daemonGroup returns the process group of a daemon.
func daemonGroup(path string) (int, error) {
	for range 500 {
		if text, err := os.ReadFile(path); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
				return syscall.Getpgid(pid)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, fmt.Errorf("no process id in %s", path)
}

// wait waits until the server accepts connections.
func (r *running) wait(ctx context.Context) error {
	network, addr := r.place.address()
	for range 500 {
		if c, err := net.Dial(network, addr); err == nil {
			return c.Close()
		}
		select {
		case <-r.done:
			return errors.New("ended at once")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return errors.New("does not listen")
}

// stop ends the server and its children.
func (r *running) stop() {
	syscall.Kill(-r.group, syscall.SIGKILL)
	if !r.daemon {
		<-r.done
	}
	os.Remove(r.place.socket)
	if r.place.image != "" {
		os.Remove(r.place.image)
	}
}

func (l *lab) freePort() int {
	c, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0
	}
	defer c.Close()
	return c.Addr().(*net.TCPAddr).Port
}
