package config

import (
	"reflect"
	"strings"
	"time"

	"github.com/strata-storage/strata/nbd"
)

// Limits bound what clients can make the server use. 0 is the server's
// default.
type Limits struct {
	_            struct{}      `doc:"Bounds what clients can make the server use."`
	Handshake    time.Duration `name:"handshake" default:"10s" doc:"Time from the connection to the choice of an export, TLS included."`
	Options      int           `name:"options" default:"1024" doc:"Options that a client may send before it chooses an export; after a list four more for each export of it."`
	Payload      int           `name:"payload" unit:"bytes" default:"32M" doc:"Data of one request or reply, a power of two from 64K to 1G."`
	Requests     int           `name:"requests" default:"256" doc:"Requests of one connection that are worked on at the same time."`
	ConnBytes    int64         `name:"conn_bytes" unit:"bytes" default:"64M" doc:"Data that one connection holds in memory."`
	Bytes        int64         `name:"bytes" unit:"bytes" default:"1G" doc:"Data that all connections together hold in memory."`
	Stall        time.Duration `name:"stall" default:"1m" doc:"Time in which a client must take some of its replies, or send some of what it has announced."`
	Conns        int           `name:"conns" default:"20000" doc:"Connections in all."`
	ConnsPerAddr int           `name:"conns_per_addr" doc:"Connections from one IP address; 0 is no bound."`
}

// Server returns the limits in the form that a server takes.
func (l Limits) Server() nbd.Limits {
	return nbd.Limits{
		Handshake: l.Handshake, Options: l.Options, Payload: l.Payload, Requests: l.Requests,
		ConnBytes: l.ConnBytes, Bytes: l.Bytes, Stall: l.Stall, Conns: l.Conns, ConnsPerAddr: l.ConnsPerAddr,
	}
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
