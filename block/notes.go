package block

// A Noter is a device that can keep short texts beside its content, which stay
// with it whatever its name is and are durable when they were set, if the device
// is: a regular file on a file system with extended attributes, for one.
//
// It is an interface of its own, to be asked for with NoterOf. A layer is no
// Noter: what was noted about the device under it need not be true of it.
type Noter interface {
	Device

	// Note returns the text under a key, empty if there is none. It is
	// ErrNotSupported where none can be kept.
	Note(key string) (string, error)

	// SetNote changes the text under a key; an empty one removes it.
	SetNote(key, text string) error
}

// NoterOf returns the Noter that a device is, also through Keep, or nil.
func NoterOf(dev Device) Noter {
	for {
		switch d := dev.(type) {
		case Noter:
			return d
		case interface{ Same() Device }:
			dev = d.Same()
		default:
			return nil
		}
	}
}
