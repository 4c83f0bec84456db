// Package wire is how the nodes of a cluster speak to each other: requests and
// replies in any order, streams with back-pressure, over a few connections that
// are one session.
//
// A frame is a fixed header, a small structured head and a payload. What the heads
// mean is not known here: a [Server] has handlers by the number of an operation, a
// [Client] sends a [Call] and gets a [Reply]. Payloads are read straight into the
// memory that they are for, headers and payloads of all that waits leave with one
// system call, and a request allocates nothing.
//
// # Sessions
//
// A [Client] is one session with one node: [Connect] opens its connections, and
// the session ends with the first of them that ends, on both sides. Nothing is
// ever sent twice. A request whose session ended fails with [ErrLost]: it may have
// been carried out, or may be about to be. [Server.End] ends sessions and returns
// when nothing of them is at work any more, so that who begins anew can be sure
// that no late request overwrites anything. [Link] has a client for who needs one,
// and makes the next one when a session is over.
//
// # Who speaks
//
// A connection begins with a hello that names cluster, node, incarnation of the
// process, and which node is meant. Both sides ask their Verify whether the
// certificate of the partner is that of the node it says it is. Foreign clusters,
// other nodes and unknown versions are refused with a text that says so.
//
// # Bounds
//
// All that a partner can make a node spend is bounded by [Limits], which both
// sides tell each other in the hello; what applies is the lesser of the two.
// Who breaks them is cut off. A partner that says nothing is known to be dead
// after Limits.Silence.
//
// # Errors
//
// Errors cross the wire with their text and a [Code]. [errors.Is] finds the error
// number that a code means, and the refusals that are named here or given in
// Errors, such as [ErrStaleEpoch].
//
// The format is described in docs/protocol-cluster.md.
package wire
