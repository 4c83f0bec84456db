// Package blocktest tests devices.
//
// [Run] is the conformance suite: it proves every promise in the comment of
// block.Device for a device of yours.
package blocktest
