// Package cluster has no code, only tests: clusters of real processes, each in a
// network namespace of its own, which are killed, stopped, cut off from each other
// and damaged while fio and a writer of its own use their volumes.
package cluster
