package socket

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A sleeper waits for one event of one descriptor. It has an epoll instance
// that is told of the descriptor for the time of a wait; Go's poller watches
// that instance.
type sleeper struct {
	epoll *os.File
	raw   syscall.RawConn // of epoll
	fd    int
	event unix.EpollEvent
	armed bool
	err   error
	step  func(epfd uintptr) bool // look, made once
}

func newSleeper(fd int, event uint32) (*sleeper, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	s := &sleeper{fd: fd, event: unix.EpollEvent{Events: unix.EPOLLONESHOT}}
	if err = unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &s.event); err == nil {
		// Only a file that does not block is one that Go's poller watches.
		err = unix.SetNonblock(epfd, true)
	}
	if err != nil {
		unix.Close(epfd)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	s.event.Events |= event
	s.epoll = os.NewFile(uintptr(epfd), "epoll")
	// A file that the poller does not take has no deadlines.
	if err := s.epoll.SetReadDeadline(time.Time{}); err != nil {
		s.epoll.Close()
		return nil, err
	}
	s.raw, _ = s.epoll.SyscallConn() // fails for a nil file only
	s.step = s.look
	return s, nil
}

// wait returns when the event has happened, with [os.ErrDeadlineExceeded] when
// the deadline of epoll has passed, and with [net.ErrClosed] when epoll is
// closed. One goroutine may wait at a time; it must keep the descriptor open.
func (s *sleeper) wait() error {
	s.armed, s.err = false, nil
	err := s.raw.Read(s.step)
	switch {
	case err == nil:
		return s.err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return err
	}
	return net.ErrClosed // there is no other reason
}

// look arms epoll when it is called first, and takes the event from it when called
// again: one that is left there would hide the next. One that comes while another
// is being taken stays there although epoll is not armed, and arming it would tell
// nobody of it, so that it is taken before.
//
// What has come by the time of arming is left to the poller all the same: to look
// for it at once would be quicker for one client, but several get a fifth less, as
// each is then served before it has made as many requests as it could.
func (s *sleeper) look(epfd uintptr) bool {
	if is, err := happened(epfd); is || err != nil {
		return true
	}
	if s.armed {
		return false
	}
	s.armed = true
	s.err = os.NewSyscallError("epoll_ctl", unix.EpollCtl(int(epfd), unix.EPOLL_CTL_MOD, s.fd, &s.event))
	return s.err != nil
}
