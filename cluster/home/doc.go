// Package home is the data directory of a node: which node of which cluster it is,
// where its parts are, and that one process uses it at a time.
//
//	DIR/lock         locked while a process uses the directory
//	DIR/node         what it is: a Record, written last
//	DIR/making       there from before the first part is made until node is there
//	DIR/keys/        authority, certificate and key, see package identity
//	DIR/etcd/        what the cluster agrees on, while this node votes
//	DIR/disks/N/     a disk: slab, a file, and meta, a directory; see package disk
//
// Open takes a directory that is empty, or does not exist, for one that is to be
// made. Whoever makes the parts calls Finish in the end; what was not finished has
// never been told to anybody, and is made anew from the beginning.
//
// # The format of node
//
// A line of text, and a JSON object to the end of the file:
//
//	strata node VERSION CHECKSUM
//
// VERSION is a decimal number, CHECKSUM the CRC-32C of the object's bytes in 8
// hexadecimal digits. A program refuses versions above its own.
package home
