package daemon

import (
	"errors"
	"net/http"

	"github.com/strata-storage/strata/internal/control"
)

// controlHandler is the API of the control socket:
//
//	GET  /v1/status   a Status
//	POST /v1/reload   reads the configuration again: a Change
//	POST /v1/stop     ends the server; answers when the last request has been
//	GET  /metrics     for Prometheus
//	     /v1/snapshots/...  see snapshotRoutes
//
// Answers are JSON, but for the metrics. One that is no success is a control.Problem.
func (d *Daemon) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		control.Answer(w, http.StatusOK, d.Status())
	})
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, r *http.Request) {
		change, err := d.Reload(r.Context())
		switch {
		case errors.Is(err, ErrStopping):
			control.Fail(w, http.StatusServiceUnavailable, err)
		case err != nil:
			control.Fail(w, http.StatusUnprocessableEntity, err)
		default:
			control.Answer(w, http.StatusOK, change)
		}
	})
	mux.HandleFunc("POST /v1/stop", func(w http.ResponseWriter, r *http.Request) {
		d.Stop()
		select {
		case <-d.drained:
			control.Answer(w, http.StatusOK, struct{}{})
		case <-r.Context().Done():
		}
	})
	d.snapshotRoutes(mux)
	mux.Handle("GET /metrics", metricsHandler(d))
	return mux
}
