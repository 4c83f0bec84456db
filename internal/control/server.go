// Package control is how commands talk to a running process: HTTP with JSON over
// a Unix socket that only its owner can reach.
package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Problem is the answer to a request that failed.
type Problem struct {
	Error string `json:"error"`
}

// Answer sends v as JSON.
func Answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.Encode(v) // an error is the client's, who has gone
}

// Fail answers that a request has failed.
func Fail(w http.ResponseWriter, code int, err error) { Answer(w, code, Problem{err.Error()}) }

// maxRequest bounds the bytes of the JSON of a request.
const maxRequest = 16 << 20

// Read reads the JSON of a request, and reports whether it could: otherwise it has
// answered. Fields that are not known are errors: whoever sends them expects something
// of them.
func Read(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err != nil {
		Fail(w, http.StatusBadRequest, fmt.Errorf("the request is not understood: %w", err))
	}
	return err == nil
}

// Servers answer requests. The zero value is ready.
type Servers struct {
	list    []*http.Server
	running sync.WaitGroup
}

// Serve serves h at l until Close. It does not wait.
func (s *Servers) Serve(l net.Listener, h http.Handler) {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	s.list = append(s.list, server)
	s.running.Go(func() { server.Serve(l) })
}

// Close gives requests that are being answered a second to end.
func (s *Servers) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, server := range s.list {
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
	}
	s.running.Wait()
}
