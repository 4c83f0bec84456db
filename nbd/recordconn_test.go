package nbd

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/iotest"
)

// A recordConn gives what it receives in whole, and never more than the rest
// of one record at once.
func TestRecordConnKeepsBounds(t *testing.T) {
	t.Parallel()
	var sent []byte
	bounds := map[int]bool{}
	for _, n := range []int{0, 1, 300, 16401, 0, 0, 16401, 5} {
		sent = append(sent, 23, 3, 3, byte(n>>8), byte(n))
		sent = append(sent, bytes.Repeat([]byte{byte(n)}, n)...)
		bounds[len(sent)] = true
	}
	for name, cut := range map[string]func(io.Reader) io.Reader{
		"at once": func(r io.Reader) io.Reader { return r },
		"halves":  iotest.HalfReader,
		"bytes":   iotest.OneByteReader,
	} {
		c := newRecordConn(readConn{r: cut(bytes.NewReader(sent))})
		var got []byte
		sizes := []int{1, 4, 5, 517, 40 << 10}
		for turn := 0; ; turn++ {
			before, size := len(got), sizes[turn%len(sizes)]
			p := make([]byte, size)
			n, err := c.Read(p)
			if err == io.EOF {
				break
			}
			got = append(got, p[:n]...)
			for at := before + 1; at < len(got); at++ {
				if bounds[at] {
					t.Fatalf("%s: %d bytes at %d cross the bound at %d", name, n, before, at)
				}
			}
		}
		if !bytes.Equal(got, sent) {
			t.Errorf("%s: received is not what was sent", name)
		}
	}
}

// readConn receives from a reader.
type readConn struct {
	net.Conn
	r io.Reader
}

func (c readConn) Read(p []byte) (int, error) { return c.r.Read(p) }
