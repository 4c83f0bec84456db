// Package nbd speaks the NBD protocol, as a server and as a client, in the
// shape of net/http.
//
// A [Server] serves exports, which are [block.Device]s under a name:
//
//	s := &nbd.Server{Exports: nbd.Exports{{Name: "disk", Device: dev}}}
//	err := s.Serve(listener)
//
// A [Client] is the other end, and is a device itself:
//
//	dev, err := nbd.Dial(ctx, "nbd://host/disk")
//
// Both know all of the protocol: fixed and plain newstyle negotiation, TLS,
// simple and structured replies, metadata contexts, block sizes and the
// extended headers of the protocol's extension branch.
//
// The protocol: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
package nbd
