// Package blocktest tests devices.
//
// [Run] is the conformance suite: it proves the promises in the comment of
// block.Device for a device of yours.
//
//	func TestConformance(t *testing.T) {
//		blocktest.Run(t, func(t testing.TB) block.Device {
//			dev, err := mydisk.Open(filepath.Join(t.TempDir(), "disk"), 1<<20)
//			if err != nil {
//				t.Fatal(err)
//			}
//			return dev
//		})
//	}
//
// [RunCuts] proves what is durable: it plays random histories on a device over
// the disks of a [Machine] and cuts the power at each of its writes.
// [EveryCut] is the same for a workload and a check of your own, [EachFault]
// makes each request to the devices below fail in turn.
//
// These are the parts that all of them are made of, for tests that need
// something special: a [History] is a sequence of requests that can be
// generated, printed, parsed, shortened and run; a [Model] knows what a device
// may answer; [NewDevice] is a device that is simple and right.
//
// Nothing depends on time, and what is random depends on a seed that is
// printed when a test fails. BLOCKTEST_TIMES=100 in the environment makes a
// hundred times as many random histories of it, see [Times].
package blocktest
