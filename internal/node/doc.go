// Package node is what `strata node` runs: a node of a cluster, its gateway for NBD
// clients, and its control socket.
package node
