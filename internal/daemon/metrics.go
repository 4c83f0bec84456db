package daemon

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/strata-storage/strata/internal/ledger"
)

// metricsHandler serves the metrics of d in the form of Prometheus.
func metricsHandler(d *Daemon) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{d}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// A collector reads the status of a server whenever somebody asks for it, so
// that metrics cost nothing in between.
type collector struct{ daemon *Daemon }

var (
	byExport = []string{"export"}

	infoDesc        = prometheus.NewDesc("strata_info", "The server; always 1.", []string{"version", "tls"}, nil)
	reloadsDesc     = prometheus.NewDesc("strata_reloads_total", "Configurations that took the place of another one.", nil, nil)
	exportDesc      = prometheus.NewDesc("strata_export_info", "An export; always 1.", []string{"export", "device", "read_only"}, nil)
	failedSidesDesc = prometheus.NewDesc("strata_mirror_failed_sides", "Sides of the export's mirrors that have failed and are not used any more.", byExport, nil)

	snapshotsDesc  = prometheus.NewDesc("strata_snapshots", "Snapshots of the export.", byExport, nil)
	storeDesc      = prometheus.NewDesc("strata_snapshot_store_bytes", "Space of the export's snapshot stores: in use for data and meta, free, and pending, which becomes free by itself.", []string{"export", "state"}, nil)
	exceptionsDesc = prometheus.NewDesc("strata_snapshot_exceptions", "Chunks on the export's snapshot stores.", byExport, nil)
	suspendedDesc  = prometheus.NewDesc("strata_snapshots_suspended", "Whether the export is suspended.", byExport, nil)
	rollbackDesc   = prometheus.NewDesc("strata_snapshot_rollback_ratio", "How much of the export a rollback under way has behind it.", byExport, nil)
)

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		infoDesc, reloadsDesc, exportDesc, failedSidesDesc,
		snapshotsDesc, storeDesc, exceptionsDesc, suspendedDesc, rollbackDesc,
	} {
		ch <- d
	}
	ledger.Describe(ch)
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	st := c.daemon.Status()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(infoDesc, 1, st.Version, st.TLS)
	counter(reloadsDesc, uint64(st.Reloads))
	open := ledger.Collect(ch, st.Connections)
	for i := range st.Exports {
		x := &st.Exports[i]
		if x.Device != "" {
			gauge(exportDesc, 1, x.Name, x.Device, strconv.FormatBool(x.ReadOnly))
		}
		if len(x.Mirrors) > 0 {
			gauge(failedSidesDesc, float64(x.FailedSides()), x.Name)
		}
		collectSnapshots(x, gauge)
		ledger.CollectExport(ch, x.Name, open[x.Name], x.Counters)
	}
}

// collectSnapshots tells about the snapshots of an export, of all its origins
// together.
func collectSnapshots(x *ExportStatus, gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	if len(x.Snapshots) == 0 {
		return
	}
	var sum SnapshotStatus
	for _, s := range x.Snapshots {
		sum.Count += s.Count
		sum.Data += s.Data
		sum.Meta += s.Meta
		sum.Free += s.Free
		sum.Pending += s.Pending
		sum.Exceptions += s.Exceptions
		sum.Suspended = sum.Suspended || s.Suspended
		if s.RollingBack != "" {
			sum.RollingBack, sum.RollbackDone = s.RollingBack, s.RollbackDone
		}
	}
	if sum.RollingBack != "" {
		gauge(rollbackDesc, sum.RollbackDone, x.Name)
	}
	gauge(snapshotsDesc, float64(sum.Count), x.Name)
	gauge(exceptionsDesc, float64(sum.Exceptions), x.Name)
	for state, n := range map[string]int64{"data": sum.Data, "meta": sum.Meta, "free": sum.Free, "pending": sum.Pending} {
		gauge(storeDesc, float64(n), x.Name, state)
	}
	suspended := 0.0
	if sum.Suspended {
		suspended = 1
	}
	gauge(suspendedDesc, suspended, x.Name)
}
