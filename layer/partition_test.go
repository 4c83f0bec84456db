package layer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/peer"
)

// runPeer runs a foreign program on a new image and returns the image.
func runPeer(t *testing.T, size int64, script string, program string, args ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "DISK", path)
	}
	cmd := exec.Command(peer.Need(t, program), args...)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return must[[]byte](t)(os.ReadFile(path))
}

// onDisk returns a device of the image with this block size.
func onDisk(image []byte, min int) *shaped {
	info := block.Info{Size: int64(len(image)), MinBlock: min}
	return &shaped{Pass: block.Pass{Device: block.FromBytes(image)}, bytes: image, info: info}
}

const mbrScript = `label: dos
start=2048, size=4096, type=83
start=8192, size=30000, type=f
start=40960, size=100, type=7
start=10240, size=2000
start=14336, size=1000
start=18432, size=512
`

var mbrWant = map[int]span{
	1: {2048 * 512, 4096 * 512}, 3: {40960 * 512, 100 * 512},
	5: {10240 * 512, 2000 * 512}, 6: {14336 * 512, 1000 * 512}, 7: {18432 * 512, 512 * 512},
}

func TestPartitionMBR(t *testing.T) {
	t.Parallel()
	image := runPeer(t, 32<<20, mbrScript, "sfdisk", "-q", "DISK")
	for _, min := range []int{1, 512, 4096} {
		o := SliceOptions{Sector: 512}
		if min < 4096 {
			o.Sector = 0
		}
		checkPartitions(t, onDisk(image, min), o, mbrWant)
	}
	_, err := Slice(onDisk(image, 1), SliceOptions{Partition: 2})
	wantErr(t, err, block.ErrInvalid, "slice: partition 2 is an extended one, which holds no data; "+
		"those inside it are numbered from 5 on: invalid argument")
	_, err = Slice(onDisk(image, 1), SliceOptions{Partition: 4})
	wantErr(t, err, block.ErrInvalid, "slice: there is no partition 4: the MBR has 1, 2, 3: invalid argument")
	_, err = Slice(onDisk(image, 1), SliceOptions{Partition: 8})
	wantErr(t, err, block.ErrInvalid, "slice: there is no partition 8: the MBR has 1, 2, 3, 5, 6, 7: invalid argument")
}

// checkPartitions compares the place and the bytes of partitions with what
// they should be.
func checkPartitions(t *testing.T, disk *shaped, o SliceOptions, want map[int]span) {
	t.Helper()
	for number, w := range want {
		o.Partition = number
		dev, err := Slice(disk, o)
		if disk.info.MinBlock > 1 && (w.start|w.length)%int64(disk.info.MinBlock) != 0 {
			if err == nil || !strings.Contains(err.Error(), "block size") {
				t.Errorf("partition %d is not aligned: %v", number, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("partition %d: %v", number, err)
			continue
		}
		if got := (span{dev.(*slice).start, dev.Info().Size}); got != w {
			t.Errorf("partition %d is %v, want %v", number, got, w)
		}
	}
}

const gptScript = `label: gpt
start=2048, size=4096
start=8192, size=1
start=10240, size=2048
`

var gptWant = map[int]span{1: {2048 * 512, 4096 * 512}, 2: {8192 * 512, 512}, 3: {10240 * 512, 2048 * 512}}

func TestPartitionGPT(t *testing.T) {
	t.Parallel()
	image := runPeer(t, 16<<20, gptScript, "sfdisk", "-q", "DISK")
	checkPartitions(t, onDisk(image, 1), SliceOptions{}, gptWant)
	checkPartitions(t, onDisk(image, 4096), SliceOptions{}, gptWant)
	_, err := Slice(onDisk(image, 1), SliceOptions{Partition: 4})
	wantErr(t, err, block.ErrInvalid, "slice: there is no partition 4: the GPT has 1, 2, 3: invalid argument")

	dev := newSlice(t, onDisk(image, 1), SliceOptions{Partition: 3, Offset: 512, Length: 1024})
	if got, want := (span{dev.(*slice).start, dev.Info().Size}), (span{10241 * 512, 1024}); got != want {
		t.Errorf("part of a partition is %v, want %v", got, want)
	}
}

// Tables that other programs write, with gaps in the numbers.
func TestPartitionOtherPrograms(t *testing.T) {
	t.Parallel()
	image := runPeer(t, 16<<20, "", "parted", "-s", "DISK", "mklabel", "gpt",
		"mkpart", "a", "2048s", "4095s", "mkpart", "b", "4096s", "8191s", "mkpart", "c", "8192s", "9000s", "rm", "2")
	checkPartitions(t, onDisk(image, 512), SliceOptions{},
		map[int]span{1: {2048 * 512, 2048 * 512}, 3: {8192 * 512, 809 * 512}})
	image = runPeer(t, 16<<20, "", "parted", "-s", "DISK", "mklabel", "msdos",
		"mkpart", "extended", "2048s", "20000s", "mkpart", "logical", "4096s", "5000s", "mkpart", "logical", "6144s", "7000s")
	checkPartitions(t, onDisk(image, 512), SliceOptions{},
		map[int]span{5: {4096 * 512, 905 * 512}, 6: {6144 * 512, 857 * 512}})
	image = runPeer(t, 16<<20, "", "sgdisk", "-a", "1", "-n", "7:3000:3999", "-n", "100:5000:5000", "DISK")
	checkPartitions(t, onDisk(image, 512), SliceOptions{},
		map[int]span{7: {3000 * 512, 1000 * 512}, 100: {5000 * 512, 512}})
}

// A GPT that counts in sectors of 4096 bytes.
func TestPartitionGPT4096(t *testing.T) {
	t.Parallel()
	image := newGPT(1024, 4096, []span{{100, 10}, {200, 1}})
	want := map[int]span{1: {100 * 4096, 10 * 4096}, 2: {200 * 4096, 4096}}
	for _, min := range []int{1, 512, 4096} {
		checkPartitions(t, onDisk(image, min), SliceOptions{}, want)
		checkPartitions(t, onDisk(image, min), SliceOptions{Sector: 4096}, want)
	}
	if _, err := Slice(onDisk(image, 1), SliceOptions{Partition: 1, Sector: 512}); err == nil {
		t.Error("a table for 4096 was read as one for 512")
	}
	image = runPeer(t, 16<<20, "g\nn\n1\n300\n399\nn\n4\n512\n\nw\n", "fdisk", "-b", "4096", "DISK")
	first := newSlice(t, onDisk(image, 4096), SliceOptions{Partition: 1}).(*slice)
	if got, want := (span{first.start, first.info.Size}), (span{300 * 4096, 100 * 4096}); got != want {
		t.Errorf("fdisk's partition is %v, want %v", got, want)
	}
}

// newGPT makes a disk with a protective MBR and both copies of a GPT of 128
// entries, whose partitions are given in sectors.
func newGPT(sectors, sector int64, parts []span) []byte {
	return newSmallGPT(sectors, sector, 128, parts)
}

func newSmallGPT(sectors, sector int64, entries int, parts []span) []byte {
	le := binary.LittleEndian
	image := make([]byte, sectors*sector)
	image[446+4], image[510], image[511] = mbrProtective, 0x55, 0xaa
	le.PutUint32(image[446+8:], 1)
	le.PutUint32(image[446+12:], uint32(sectors-1))
	table := make([]byte, entries*128)
	for i, p := range parts {
		e := table[i*128:]
		e[0] = 1
		le.PutUint64(e[32:], uint64(p.start))
		le.PutUint64(e[40:], uint64(p.start+p.length-1))
	}
	room := (int64(len(table)) + sector - 1) / sector
	for _, at := range [][2]int64{{1, 2}, {sectors - 1, sectors - 1 - room}} {
		copy(image[at[1]*sector:], table)
		h := image[at[0]*sector:]
		copy(h, gptSignature)
		le.PutUint32(h[8:], 0x10000)
		le.PutUint32(h[12:], 92)
		le.PutUint64(h[24:], uint64(at[0]))
		le.PutUint64(h[40:], uint64(2+room))
		le.PutUint64(h[48:], uint64(sectors-2-room))
		le.PutUint64(h[72:], uint64(at[1]))
		le.PutUint32(h[80:], uint32(entries))
		le.PutUint32(h[84:], 128)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(table))
		seal(h)
	}
	return image
}

// seal puts the right checksum into a header.
func seal(h []byte) {
	clear(h[16:20])
	size := min(binary.LittleEndian.Uint32(h[12:]), uint32(len(h)))
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:size]))
}

// One byte that is wrong in the header or the entries makes the other copy the
// one to read; if both are wrong, the error says what each was.
func TestPartitionGPTDamage(t *testing.T) {
	t.Parallel()
	const sectors = 2048
	good := newGPT(sectors, 512, []span{{100, 10}})
	want := map[int]span{1: {100 * 512, 10 * 512}}
	places := map[string][2]int{
		"signature": {512, (sectors - 1) * 512},
		"header":    {512 + 60, (sectors-1)*512 + 60},
		"entries":   {1024 + 40, (sectors-33)*512 + 40},
	}
	for name, at := range places {
		for i := range at {
			image := bytes.Clone(good)
			image[at[i]] ^= 1
			t.Run(fmt.Sprint(name, i), func(t *testing.T) { checkPartitions(t, onDisk(image, 512), SliceOptions{}, want) })
		}
		image := bytes.Clone(good)
		image[at[0]] ^= 1
		image[at[1]] ^= 1
		_, err := Slice(onDisk(image, 1), SliceOptions{Partition: 1, Sector: 512})
		if err == nil || !strings.HasPrefix(err.Error(), "slice: no copy of the GPT is valid: header at sector 1 of 512 bytes: ") ||
			!strings.Contains(err.Error(), "header at sector 2047 of 512 bytes: ") {
			t.Errorf("%s: both damaged: %v", name, err)
		}
	}
}

// What a header may claim, with a right checksum, and must not be believed.
func TestPartitionGPTLies(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	for _, tt := range []struct {
		name string
		lie  func(h []byte)
		want string
	}{
		{"revision", func(h []byte) { le.PutUint32(h[8:], 0x20000) }, "revision is 2.0, expected 1.0"},
		{"short header", func(h []byte) { le.PutUint32(h[12:], 91) }, "header size is 91 bytes, expected 92 to 512"},
		{"long header", func(h []byte) { le.PutUint32(h[12:], 1<<31) }, "header size is 2147483648 bytes, expected 92 to 512"},
		{"elsewhere", func(h []byte) { le.PutUint64(h[24:], 7) }, "the header says that it is at sector 7"},
		{"small entries", func(h []byte) { le.PutUint32(h[84:], 64) }, "entry size is 64 bytes, expected a power of two from 128 on"},
		{"odd entries", func(h []byte) { le.PutUint32(h[84:], 129) }, "entry size is 129 bytes, expected a power of two from 128 on"},
		{"many entries", func(h []byte) { le.PutUint32(h[80:], 1<<31) }, "2147483648 entries of 128 bytes, at most 1048576 bytes are supported"},
		{"table at 0", func(h []byte) { le.PutUint64(h[72:], 0) }, "16384 bytes of entries at sector 0 are not inside the device"},
		{"table outside", func(h []byte) { le.PutUint64(h[72:], 1<<60) }, "16384 bytes of entries at sector 1152921504606846976 are not inside the device"},
		{"table at the end", func(h []byte) { le.PutUint64(h[72:], 2040) }, "16384 bytes of entries at sector 2040 are not inside the device"},
		{"larger disk", func(h []byte) { le.PutUint64(h[48:], 1<<40) }, "last usable sector is 1099511627776, the device has 2048"},
		{"checksum", func(h []byte) { le.PutUint32(h[88:], 0) }, "checksum of the entries is "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			image := newGPT(2048, 512, []span{{100, 10}})
			clear(image[2047*512:])
			h := image[512:1024]
			tt.lie(h)
			seal(h)
			_, err := Slice(onDisk(image, 1), SliceOptions{Partition: 1})
			if err == nil || !strings.Contains(err.Error(), "header at sector 1 of 512 bytes: "+tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// An entry that is wrong does not keep the others from being used.
func TestPartitionBadEntry(t *testing.T) {
	t.Parallel()
	image := newGPT(2048, 512, []span{{100, 10}, {1, 10}, {100, 5000}, {100, -3}, {300, 1}})
	checkPartitions(t, onDisk(image, 512), SliceOptions{}, map[int]span{1: {100 * 512, 10 * 512}, 5: {300 * 512, 512}})
	_, err := Slice(onDisk(image, 1), SliceOptions{Partition: 2})
	wantErr(t, err, block.ErrInvalid, "slice: partition 2 has the sectors 1 to 10, expected them inside 34 to 2014: invalid argument")
	for _, n := range []int{3, 4} {
		if _, err := Slice(onDisk(image, 1), SliceOptions{Partition: n}); err == nil {
			t.Errorf("partition %d was accepted", n)
		}
	}
	mbr := newMBR(100, mbrEntry{0x83, 10, 20}, mbrEntry{0x83, 90, 11})
	checkPartitions(t, onDisk(mbr, 512), SliceOptions{}, map[int]span{1: {10 * 512, 20 * 512}})
	_, err = Slice(onDisk(mbr, 1), SliceOptions{Partition: 2})
	wantErr(t, err, block.ErrInvalid, "slice: partition 2: 11 sectors at sector 90 end beyond the device of 100 sectors of 512 bytes: invalid argument")
}

// newMBR makes a disk of 512-byte sectors.
func newMBR(sectors int, entries ...mbrEntry) []byte {
	image := make([]byte, sectors*512)
	putMBR(image, entries...)
	return image
}

func putMBR(b []byte, entries ...mbrEntry) {
	for i, e := range entries {
		b[446+16*i+4] = e.kind
		binary.LittleEndian.PutUint32(b[446+16*i+8:], e.lba)
		binary.LittleEndian.PutUint32(b[446+16*i+12:], e.count)
	}
	b[510], b[511] = 0x55, 0xaa
}

func TestPartitionMBRChain(t *testing.T) {
	t.Parallel()
	extended := mbrEntry{5, 100, 900}
	for _, tt := range []struct {
		name string
		link func(image []byte)
		want string
	}{
		{"loop", func(b []byte) {
			putMBR(b[100*512:], mbrEntry{0x83, 1, 1}, mbrEntry{5, 50, 10})
			putMBR(b[150*512:], mbrEntry{0x83, 1, 1}, mbrEntry{5, 0, 10})
		}, "slice: the chain of logical partitions comes back to sector 100: invalid argument"},
		{"endless", func(b []byte) {
			for i := 100; i < 999; i++ {
				putMBR(b[i*512:], mbrEntry{}, mbrEntry{5, uint32(i - 99), 10})
			}
		}, "slice: the chain of logical partitions has more than 256 links: invalid argument"},
		{"outside", func(b []byte) { putMBR(b[100*512:], mbrEntry{0x83, 1, 1}, mbrEntry{5, 1 << 31, 10}) },
			"slice: logical partitions: the table at sector 2147483748 is not inside the device of 1000 sectors of 512 bytes: invalid argument"},
		{"no signature", func(b []byte) { putMBR(b[100*512:], mbrEntry{}, mbrEntry{5, 7, 10}) },
			"slice: logical partitions: the table at sector 107 does not end with the signature 55 aa: invalid argument"},
		{"empty", func(b []byte) { putMBR(b[100*512:]) }, "slice: there is no partition 5: the MBR has 1: invalid argument"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			image := newMBR(1000, extended)
			tt.link(image)
			_, err := Slice(onDisk(image, 1), SliceOptions{Partition: 5})
			wantErr(t, err, block.ErrInvalid, tt.want)
		})
	}
	_, err := Slice(onDisk(newMBR(10), 1), SliceOptions{Partition: 1})
	wantErr(t, err, block.ErrInvalid, "slice: there is no partition 1: the MBR has no partitions: invalid argument")
}

func TestPartitionReadError(t *testing.T) {
	t.Parallel()
	disk := onDisk(newMBR(10), 1)
	disk.before = func(Op, int64, int64, block.Flags) error { return block.ErrIO }
	_, err := Slice(disk, SliceOptions{Partition: 1})
	wantErr(t, err, block.ErrIO, "slice: cannot read the partition table at byte 0: input/output error")

	// The backup stands in for a primary table that cannot be read, in
	// pieces that the device takes.
	disk = onDisk(newGPT(2048, 512, []span{{100, 10}}), 512)
	disk.info.MaxBlock = 1024
	disk.before = func(_ Op, off, n int64, _ block.Flags) error {
		if off <= 512 && off+n > 512 {
			return block.ErrIO
		}
		return nil
	}
	checkPartitions(t, disk, SliceOptions{}, map[int]span{1: {100 * 512, 10 * 512}})
}

// Whatever is on a disk, every partition found lies inside it, and finding it
// ends. Checksums are put right so that the fuzzer gets behind them.
func FuzzPartitions(f *testing.F) {
	f.Add(newMBR(4, mbrEntry{0x83, 1, 2}), uint8(1), false)
	chain := newMBR(8, mbrEntry{5, 1, 7})
	putMBR(chain[512:], mbrEntry{0x83, 1, 1}, mbrEntry{5, 3, 3})
	putMBR(chain[4*512:], mbrEntry{0x83, 1, 1})
	f.Add(chain, uint8(6), false)
	f.Add(newSmallGPT(9, 512, 4, []span{{4, 1}}), uint8(1), true)
	f.Fuzz(func(t *testing.T, image []byte, number uint8, repair bool) {
		image = slices.Clone(image[:len(image)&^511])
		if repair && len(image) >= 2048 {
			h := image[512:1024]
			table := binary.LittleEndian.Uint64(h[72:])
			size := uint64(binary.LittleEndian.Uint32(h[80:])) * uint64(binary.LittleEndian.Uint32(h[84:]))
			if all := uint64(len(image)); table < all/512 && size <= all-table*512 {
				binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(image[table*512:][:size]))
			}
			seal(h)
		}
		dev, err := Slice(onDisk(image, 512), SliceOptions{Partition: int(number)})
		if err != nil {
			return
		}
		if s, ok := dev.(*slice); !ok || s.start < 0 || s.info.Size < 0 || s.start+s.info.Size > int64(len(image)) {
			t.Errorf("partition %d of %d bytes: %+v", number, len(image), dev)
		}
	})
}
