package nbd

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/strata-storage/strata/block"
)

// feed gives the server what a client sends and takes what it says.
func feed(t *testing.T, s *Server, data []byte) {
	mine, theirs := socketPair(t)
	done := make(chan error, 1)
	go func() { done <- s.ServeConn(context.Background(), theirs) }()
	go func() {
		mine.Write(data)
		mine.(*net.UnixConn).CloseWrite()
	}()
	io.Copy(io.Discard, mine)
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("server hangs")
	}
	mine.Close()
}

func fuzzServer() *Server {
	s := memServer(64 << 10)
	s.Exports = append(s.Exports.(Exports), &Export{Name: "ro", ReadOnly: true, Device: block.FromBytes(make([]byte, 4096))})
	return s
}

// FuzzServerNegotiation sends any bytes in place of client flags and options.
func FuzzServerNegotiation(f *testing.F) {
	flags := []byte{0, 0, 0, 3}
	for _, seed := range [][]byte{
		nil, {0, 0}, flags, {0, 0, 0, 7},
		append(append([]byte{}, flags...), optionBytes(optList, nil)...),
		append(append([]byte{}, flags...), optionBytes(optGo, infoData("disk", infoBlockSize))...),
		append(append(append([]byte{}, flags...), optionBytes(optStructuredReply, nil)...), optionBytes(optSetMetaContext, queryData("ro", "base:"))...),
		append(append([]byte{}, flags...), optionBytes(optExportName, []byte("disk"))...),
		append(append([]byte{}, flags...), optionBytes(optStartTLS, nil)...),
		append(append([]byte{}, flags...), optionBytes(optAbort, []byte("x"))...),
	} {
		f.Add(seed)
	}
	s := fuzzServer()
	f.Fuzz(func(t *testing.T, data []byte) { feed(t, s, data) })
}

// FuzzServerRequests sends any bytes in place of requests.
func FuzzServerRequests(f *testing.F) {
	for _, extended := range []bool{false, true} {
		for cmd := cmdRead; cmd <= cmdBlockStatus+1; cmd++ {
			f.Add(extended, true, requestBytes(extended, cmd, 0, 1, 0, 512, make([]byte, 512)))
			f.Add(extended, false, requestBytes(extended, cmd, cmdFlagFUA|cmdFlagPayloadLen, 1, 1<<40, 1<<31, nil))
		}
	}
	s := fuzzServer()
	f.Fuzz(func(t *testing.T, extended, structured bool, data []byte) {
		hello := []byte{0, 0, 0, 3}
		switch {
		case extended:
			hello = append(hello, optionBytes(optExtendedHeaders, nil)...)
		case structured:
			hello = append(hello, optionBytes(optStructuredReply, nil)...)
		}
		hello = append(hello, optionBytes(optSetMetaContext, queryData("", "base:allocation"))...)
		hello = append(hello, optionBytes(optGo, infoData(""))...)
		feed(t, s, append(hello, data...))
	})
}
