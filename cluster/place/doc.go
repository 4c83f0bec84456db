// Package place says which disks should have a placement group. It is a pure
// function of the disks of a cluster, the same on every machine: whoever knows the
// disks knows the wish, and nobody keeps a table of it. Which disks do have a
// group is agreed elsewhere (package record); package steward says how to get
// from there to the wish without ever having too few copies.
//
// # Objects to groups
//
// Where there are 2^k groups, the group of an object is made of the k upper bits
// of its hash, so that a group is a range of hashes: [Index], [Range].
//
// # Groups to disks
//
// Weighted rendezvous hashing: each disk draws a number for each group, and the
// one with the best number has it. The numbers are those of an exponential
// distribution whose rate is the weight, so that a disk wins as often as its part
// of all weights says. When a disk comes, goes or gets another weight, nobody
// else's numbers change: groups move to it or from it only, as few as there can
// be.
//
// All of it is arithmetic of unsigned integers, of 64 bits and modulo 2^64 unless
// said otherwise. This is the whole of it:
//
//	mix(x):   x += 0x9e3779b97f4a7c15
//	          x = (x xor x>>30) * 0xbf58476d1ce4e5b9
//	          x = (x xor x>>27) * 0x94d049bb133111eb
//	          x xor x>>31
//	seed:     mix(FNV-1a of 64 bits over the bytes of the disk's ID)
//	draw:     mix(mix(group) xor seed) or 1
//	lead(x):  number of zero bits above the highest bit of x that is set
//	cost(x):  n = lead(x); m = x << n
//	          i = the bits 62 to 53 of m; r = the bits 52 to 29 of m
//	          (n+1)*2^48 - T[i] - ((T[i+1]-T[i]) * r >> 24)
//	T[i]:     for i < 1024 the first 48 bits of the fraction of
//	          log2(1 + i/1024), as follows; T[1024] = 2^48
//	          m = (1024+i) << 53; t = 0
//	          48 times: p = m*m, of 128 bits
//	                    if p >= 2^127: t = 2t+1; m = p >> 64
//	                    else:          t = 2t;   m = p >> 63
//
// So cost is -log2(draw / 2^64) in units of 2^-48, with straight lines between the
// 1025 places of the table; it is within 0.05 % of it, the same for all disks, and
// never 0. Disk a is before disk b if
//
//	cost(a) * weight(b) < cost(b) * weight(a)    in 128 bits,
//
// or if both are equal and the ID of a is less than that of b, byte by byte.
//
// The disks of a group are then chosen one after the other. Disks of weight 0 and
// of nodes that have been chosen are out. Of the others those remain that are in a
// zone of which the fewest disks have been chosen by now; the first of them, in
// the order above, is next. So a group is spread over as many zones as there can
// be, and evenly over those; no node ever has two copies. If there are fewer nodes
// than copies, each of them has one.
//
// Spreading goes before weights: a zone that has more than its part of the weights
// gets no more than one copy of each group all the same.
//
// # How many groups
//
// A disk gets groups*copies/disks of them on average, and as chance has it, the
// relative standard deviation is about one over the square root of that. The
// fullest disk decides when the cluster is full: see [Groups].
package place
