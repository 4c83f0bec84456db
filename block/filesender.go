package block

// A FileSender is a device whose bytes lie in a file that the operating system
// can send to a socket by itself, without a copy of them in the process. It is
// a shortcut of ReadAt that a server may take: a layer that looks at what is
// read, or changes it, just does not implement it.
type FileSender interface {
	Device

	// CanSend reports whether SendTo is likely to be worth it: all of the n
	// bytes at off are data and in memory. The range must be inside the
	// device.
	CanSend(off int64, n int) bool

	// SendTo sends the first of the n bytes at off to the socket with the
	// descriptor sock, which does not block, and returns how many it was.
	// When the socket takes nothing at the moment the error is that of the
	// system, EAGAIN. Bytes that are on their way may still change with
	// writes to the device.
	SendTo(sock uintptr, off int64, n int) (int, error)
}
