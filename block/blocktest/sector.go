package blocktest

import "bytes"

// sectorSize is the unit in bytes that a device may mix, tear or lose.
const sectorSize = 512

// A choice is what a read of one sector may return: one of the images or, if
// mixed, at each place the byte of one of them; if any, everything. Images
// are immutable and as long as the sector.
type choice struct {
	images [][]byte
	mixed  bool
	any    bool
}

// allows reports whether a read of the bytes at from may return got.
func (c *choice) allows(got []byte, from int) bool {
	if c.any {
		return true
	}
	for _, image := range c.images {
		if bytes.Equal(got, image[from:from+len(got)]) {
			return true
		}
	}
	return c.mixed && c.allowsEach(got, from)
}

// allowsEach is allows for each byte by itself.
func (c *choice) allowsEach(got []byte, from int) bool {
	for i, b := range got {
		found := false
		for _, image := range c.images {
			found = found || image[from+i] == b
		}
		if !found {
			return false
		}
	}
	return true
}

// put says that the bytes at from are those of p now. size is the length of
// the sector.
func (c *choice) put(p []byte, from, size int) {
	if len(p) == size {
		*c = choice{images: [][]byte{p}}
		return
	}
	old := c.images
	c.images = nil
	for _, image := range old {
		c.add(patched(image, p, from))
	}
}

// may says that the bytes at from are as before or those of p.
func (c *choice) may(p []byte, from, size int) {
	if len(p) == size {
		c.add(p)
		return
	}
	if len(c.images) > 0 {
		c.add(patched(c.images[0], p, from))
		c.mixed = true
	}
}

// join adds everything that other allows.
func (c *choice) join(other *choice) {
	c.any = c.any || other.any
	c.mixed = c.mixed || other.mixed
	for _, image := range other.images {
		c.add(image)
	}
}

func (c *choice) add(image []byte) {
	for _, have := range c.images {
		if bytes.Equal(have, image) {
			return
		}
	}
	c.images = append(c.images[:len(c.images):len(c.images)], image)
}

// patched returns image with p at from.
func patched(image, p []byte, from int) []byte {
	out := bytes.Clone(image)
	copy(out[from:], p)
	return out
}

// A sector is what the model knows about one sector.
type sector struct {
	now choice
	// lasting is what the sector may hold after a power cut: what was
	// durable at the last flush and everything since.
	lasting choice
}
