package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"
)

// controlHandler is the API of the control socket:
//
//	GET  /v1/status   a Status
//	POST /v1/reload   reads the configuration again: a Change, or a problem
//	POST /v1/stop     ends the server; answers when the last request has been
//	GET  /metrics     for Prometheus
//	     /v1/snapshots/...  see snapshotRoutes
//
// Answers are JSON, but for the metrics. One that is no success is a problem.
func (d *Daemon) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, d.Status())
	})
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, r *http.Request) {
		change, err := d.Reload(r.Context())
		switch {
		case errors.Is(err, ErrStopping):
			answer(w, http.StatusServiceUnavailable, problem{err.Error()})
		case err != nil:
			answer(w, http.StatusUnprocessableEntity, problem{err.Error()})
		default:
			answer(w, http.StatusOK, change)
		}
	})
	mux.HandleFunc("POST /v1/stop", func(w http.ResponseWriter, r *http.Request) {
		d.Stop()
		select {
		case <-d.drained:
			answer(w, http.StatusOK, struct{}{})
		case <-r.Context().Done():
		}
	})
	d.snapshotRoutes(mux)
	mux.Handle("GET /metrics", metricsHandler(d))
	return mux
}

// A problem is the answer to a request that failed.
type problem struct {
	Error string `json:"error"`
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.Encode(v) // an error is the client's, who has gone
}

// serveHTTP serves h at l until closeHTTP.
func (d *Daemon) serveHTTP(l net.Listener, h http.Handler) {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	d.http = append(d.http, s)
	d.running.Go(func() { s.Serve(l) })
}

// closeHTTP gives requests that are being answered a second to end.
func (d *Daemon) closeHTTP() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, s := range d.http {
		if s.Shutdown(ctx) != nil {
			s.Close()
		}
	}
}
