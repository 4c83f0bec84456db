package nbd

import "syscall"

const (
	// minSendFile is the length from which a READ of a file is sent by the
	// kernel. Below that a copy costs less than one more system call.
	minSendFile = 32 << 10
	// sendFileMax is how much is sent at once. It is still in the processor's
	// cache when the client copies it.
	sendFileMax = 128 << 10
)

// sendFile answers a READ of n bytes from a file.
func (t *transmission) sendFile(r *request, n int) {
	t.room(maxReadHead)
	b := t.out
	b.end = len(r.appendReadHead(b.mem[:b.end], n))
	b.file, b.fileOff, b.fileLen = t.sender, int64(r.off), n
	r.done = n
	r.answered()
	t.idle.Put(r)
	t.sendReplies()
}

// A fileSending sends ranges of files to a socket.
type fileSending struct {
	raw  syscall.RawConn
	some func(fd uintptr) bool // sendSome, made once

	b   *buffer // whose range is being sent
	err error
}

func (s *fileSending) init(raw syscall.RawConn) {
	s.raw, s.some = raw, s.sendSome
}

// send sends the file of b, whose header has been sent: an error must end the
// connection.
func (s *fileSending) send(b *buffer, taking *progress) error {
	s.b = b
	for b.fileLen > 0 {
		taking.begin()
		err := s.raw.Write(s.some)
		taking.end()
		if err == nil {
			err = s.err
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sendSome sends at most a round, and returns false if the socket is full.
func (s *fileSending) sendSome(fd uintptr) bool {
	b := s.b
	for left := roundSize; left > 0 && b.fileLen > 0; {
		n, err := b.file.SendTo(fd, b.fileOff, min(b.fileLen, left, sendFileMax))
		switch err {
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
			continue
		}
		if s.err = err; err != nil {
			return true
		}
		b.fileOff, b.fileLen, left = b.fileOff+int64(n), b.fileLen-n, left-n
	}
	return true
}
