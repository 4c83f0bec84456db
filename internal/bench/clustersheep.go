package main

// sheepFigures are published figures of Sheepdog 1.0, which is not part of the run: three
// nodes and the client on one host with two shared processors, over loopback, a
// generator that speaks its protocol, a volume of 256 MiB whose objects exist, single
// runs of 3 s. Depth 64 is 4 connections with 16 requests each. Requests a second.
var sheepFigures = map[string]float64{
	"4 KiB random write, depth 1":     2614,
	"4 KiB random write, depth 16":    3564,
	"4 KiB random write, depth 64":    3257,
	"4 KiB random read, depth 1":      9619,
	"4 KiB random read, depth 16":     11060,
	"4 KiB random read, depth 64":     16393,
	"4 MiB sequential write, depth 4": 281.2 / 4,
	"4 MiB sequential read, depth 4":  750.1 / 4,
	flushedEach:                       1419,
	sheepFirst:                        1e3 / 20,
	sheepRewrite:                      1e3 / 0.45,
}

// Single requests of QEMU: a first write after a snapshot takes 16 to 24 ms.
const (
	sheepFirst   = "first write after a snapshot"
	sheepRewrite = "rewrite after a snapshot"
)

const sheepText = "Sheepdog 1.0, as published: three nodes and the client on one host with two shared processors, over loopback, three copies in memory (flushed writes: on ext4 on a virtual disk, each written with O_DSYNC), a generator that speaks its own protocol, single runs of 3 s of another day. Only indicative."
