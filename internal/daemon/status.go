package daemon

import (
	"cmp"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/config"
	"github.com/strata-storage/strata/internal/ledger"
	"github.com/strata-storage/strata/layer"
	"github.com/strata-storage/strata/nbd"
)

// A Status describes a running server.
type Status struct {
	Version   string    `json:"version"`
	PID       int       `json:"pid"`
	Started   time.Time `json:"started"`
	Reloads   int       `json:"reloads"`
	Listeners []string  `json:"listeners"`
	// TLS is off, optional or required.
	TLS string `json:"tls"`
	// Exports in the order of the configuration, then those that are gone
	// from it and still have connections.
	Exports []ExportStatus `json:"exports"`
	// Connections that there are, oldest first.
	Connections []nbd.ConnStatus `json:"connections"`
}

// An ExportStatus describes an export. The counters are those of all its
// connections since the server started.
type ExportStatus struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// Device is the expression that makes it; empty if the export is gone.
	Device string `json:"device,omitempty"`
	// Size in bytes.
	Size        int64 `json:"size"`
	ReadOnly    bool  `json:"read_only"`
	RequireTLS  bool  `json:"require_tls"`
	Connections int   `json:"connections"`
	// Mirrors that it is made of.
	Mirrors []MirrorStatus `json:"mirrors,omitempty"`
	// Snapshots are those of the origins that it is made of.
	Snapshots []SnapshotStatus `json:"snapshots,omitempty"`
	ledger.Counters
}

// A MirrorStatus describes a mirror.
type MirrorStatus struct {
	// Device is the expression that makes it.
	Device string       `json:"device"`
	Sides  []SideStatus `json:"sides"`
}

// A SideStatus describes a side of a mirror.
type SideStatus struct {
	// Device is the expression that makes it.
	Device string `json:"device"`
	// Error is why the side is not used any more, empty while it is.
	Error string `json:"error,omitempty"`
}

// FailedSides counts the sides of the export's mirrors that are not used any
// more.
func (x *ExportStatus) FailedSides() int {
	n := 0
	for _, m := range x.Mirrors {
		for _, s := range m.Sides {
			if s.Error != "" {
				n++
			}
		}
	}
	return n
}

// mirrorsOf describes the mirrors among devices.
func mirrorsOf(devices iter.Seq2[*config.Spec, block.Device]) []MirrorStatus {
	var list []MirrorStatus
	for spec, dev := range devices {
		sides := layer.MirrorSides(dev)
		if sides == nil {
			continue
		}
		m := MirrorStatus{Device: spec.String()}
		for i, lower := range spec.Devices() {
			s := SideStatus{Device: lower.String()}
			if err := sides[i].Err; err != nil {
				s.Error = err.Error()
			}
			m.Sides = append(m.Sides, s)
		}
		list = append(list, m)
	}
	return list
}

// describeView completes what is said of an export that is a view of one of the
// first n.
func (st *Status) describeView(x *ExportStatus, n int) {
	base, view, _ := cutLast(x.Name, "@")
	for i := range st.Exports[:n] {
		if of := &st.Exports[i]; view != "" && of.Name == base && len(of.Snapshots) > 0 {
			x.Device, x.Size, x.ReadOnly, x.RequireTLS = fmt.Sprintf("snapshot %q of export %q", view, base), of.Size, of.ReadOnly, of.RequireTLS
		}
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// Status describes the server at this moment.
func (d *Daemon) Status() *Status {
	d.mu.Lock()
	cfg, servers := d.config, slices.Clone(d.servers)
	st := &Status{
		Version: d.o.Version, PID: os.Getpid(), Started: d.started, Reloads: d.reloads,
		Listeners: d.addresses(), TLS: modeOf(cfg), Exports: []ExportStatus{},
	}
	d.mu.Unlock()
	open, sums := d.ledger.Read(servers)
	st.Connections = append([]nbd.ConnStatus{}, open...)
	count := map[string]int{}
	for _, c := range open {
		if c.Ready {
			count[c.Export]++
		}
	}
	for _, served := range d.set.Status() {
		x := served.Export
		st.Exports = append(st.Exports, ExportStatus{
			Name: x.Name, Description: x.Description, Device: x.Device.String(), Size: served.Info.Size,
			ReadOnly: x.ReadOnly, RequireTLS: x.RequireTLS,
			Connections: count[x.Name], Mirrors: mirrorsOf(served.Devices),
			Snapshots: snapshotsOf(served.Devices), Counters: sums[x.Name],
		})
		delete(count, x.Name)
	}
	known := len(st.Exports)
	for name, n := range count {
		x := ExportStatus{Name: name, Connections: n, Counters: sums[name]}
		st.describeView(&x, known)
		st.Exports = append(st.Exports, x)
	}
	slices.SortFunc(st.Exports[known:], func(a, b ExportStatus) int { return cmp.Compare(a.Name, b.Name) })
	return st
}
