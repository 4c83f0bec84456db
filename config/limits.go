package config

import (
	"reflect"
	"strings"
	"time"
)

// Limits bound what clients can make the server use. 0 is the server's
// default.
type Limits struct {
	_            struct{}      `doc:"Bounds what clients can make the server use."`
	Handshake    time.Duration `name:"handshake" default:"10s" doc:"How long a client may take to choose an export."`
	Options      int           `name:"options" doc:"How many options a client may send before it chooses an export."`
	Payload      int           `name:"payload" unit:"bytes" doc:"The longest read or write in one request."`
	Requests     int           `name:"requests" doc:"Requests in flight on one connection."`
	ConnBytes    int64         `name:"conn_bytes" unit:"bytes" doc:"Bytes in flight on one connection."`
	Bytes        int64         `name:"bytes" unit:"bytes" doc:"Bytes in flight on all connections together."`
	Conns        int           `name:"conns" doc:"Connections in all."`
	ConnsPerAddr int           `name:"conns_per_addr" doc:"Connections from one address."`
}

// String lists the limits that are set.
func (l Limits) String() string {
	table, err := readOptions(reflect.TypeFor[Limits]())
	if err != nil {
		panic(err)
	}
	var parts []string
	for i := range table.params {
		p := &table.params[i]
		f := reflect.ValueOf(l).Field(p.field)
		if f.IsZero() {
			continue
		}
		v := f.Interface()
		if n, ok := v.(int); ok {
			v = int64(n)
		}
		parts = append(parts, p.Name+"="+formatValue(p, v))
	}
	return strings.Join(parts, " ")
}
