package node

import (
	"context"
	"errors"
	"net/http"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/cluster/coord"
	"github.com/strata-storage/strata/cluster/record"
	"github.com/strata-storage/strata/internal/control"
)

// controlHandler is the API of the control socket:
//
//	GET  /v1/status          the node, a Status
//	GET  /v1/cluster         the cluster, a ClusterStatus
//	POST /v1/stop            ends the node; answers when nothing is served any more
//	     /v1/cluster/...     see memberRoutes
//	GET  /metrics            for Prometheus
//	     /v1/volumes/...     see volumeRoutes and transferRoutes
//	     /v1/jobs/...        see jobRoutes
//
// Answers are JSON, but for the metrics. One that is no success is a control.Problem.
func (n *Node) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		control.Answer(w, http.StatusOK, n.Status())
	})
	mux.HandleFunc("GET /v1/cluster", func(w http.ResponseWriter, r *http.Request) { reply(w)(n.ClusterStatus(r.Context())) })
	mux.HandleFunc("POST /v1/stop", func(w http.ResponseWriter, r *http.Request) {
		n.Stop()
		select {
		case <-n.drained:
			control.Answer(w, http.StatusOK, struct{}{})
		case <-r.Context().Done():
		}
	})
	n.memberRoutes(mux)
	n.volumeRoutes(mux)
	n.jobRoutes(mux)
	mux.Handle("GET /metrics", metricsHandler(n))
	n.transferRoutes(mux)
	return mux
}

// post adds what is done with a request of the type Q, and answered with an A.
func post[Q, A any](mux *http.ServeMux, path string, do func(ctx context.Context, q Q) (A, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if !control.Read(w, r, &q) {
			return
		}
		reply(w)(do(r.Context(), q))
	})
}

// reply answers with what something came to.
func reply(w http.ResponseWriter) func(v any, err error) {
	return func(v any, err error) {
		if err != nil {
			control.Fail(w, codeOf(err), err)
			return
		}
		control.Answer(w, http.StatusOK, v)
	}
}

// codeOf is the status of HTTP for an error.
func codeOf(err error) int {
	switch {
	case errors.Is(err, record.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, record.ErrExists), errors.Is(err, record.ErrInUse), errors.Is(err, record.ErrConflict), refused(err):
		return http.StatusConflict
	case errors.Is(err, record.ErrInvalid), errors.Is(err, block.ErrInvalid), errors.Is(err, errRequest):
		return http.StatusUnprocessableEntity
	case errors.Is(err, coord.ErrUnavailable):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// errRequest is wrapped by the errors of requests that cannot be carried out.
var errRequest = errors.New("invalid request")
