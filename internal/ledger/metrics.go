package ledger

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/strata-storage/strata/nbd"
)

var (
	byExport = []string{"export"}

	negotiatingDesc = prometheus.NewDesc("strata_negotiating_connections", "Connections that have not chosen an export.", nil, nil)
	connectionsDesc = prometheus.NewDesc("strata_connections", "Connections to the export.", byExport, nil)
	acceptedDesc    = prometheus.NewDesc("strata_connections_total", "Connections to the export so far.", byExport, nil)
	inFlightDesc    = prometheus.NewDesc("strata_requests_in_flight", "Requests that are being worked on.", byExport, nil)
	requestsDesc    = prometheus.NewDesc("strata_requests_total", "Requests answered.", byExport, nil)
	errorsDesc      = prometheus.NewDesc("strata_request_errors_total", "Requests answered with an error.", byExport, nil)
	readDesc        = prometheus.NewDesc("strata_read_bytes_total", "Bytes read by clients.", byExport, nil)
	writtenDesc     = prometheus.NewDesc("strata_written_bytes_total", "Bytes written by clients.", byExport, nil)
)

// Describe describes what Collect and CollectExport send.
func Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		negotiatingDesc, connectionsDesc, acceptedDesc, inFlightDesc, requestsDesc, errorsDesc, readDesc, writtenDesc,
	} {
		ch <- d
	}
}

// Open is what the open connections to an export are doing.
type Open struct{ Connections, InFlight int }

// Collect tells how many connections have not chosen an export, and returns the others
// by export.
func Collect(ch chan<- prometheus.Metric, open []nbd.ConnStatus) map[string]Open {
	by := map[string]Open{}
	negotiating := 0
	for i := range open {
		c := &open[i]
		if !c.Ready {
			negotiating++
			continue
		}
		o := by[c.Export]
		o.Connections++
		o.InFlight += c.InFlight
		by[c.Export] = o
	}
	ch <- prometheus.MustNewConstMetric(negotiatingDesc, prometheus.GaugeValue, float64(negotiating))
	return by
}

// CollectExport tells of one export.
func CollectExport(ch chan<- prometheus.Metric, name string, o Open, c Counters) {
	gauge := func(d *prometheus.Desc, v int) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), name)
	}
	counter := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), name)
	}
	gauge(connectionsDesc, o.Connections)
	gauge(inFlightDesc, o.InFlight)
	counter(acceptedDesc, c.Accepted)
	counter(requestsDesc, c.Requests)
	counter(errorsDesc, c.Errors)
	counter(readDesc, c.BytesRead)
	counter(writtenDesc, c.BytesWritten)
}
