package block

import "context"

// A Starter is a [Device] that can begin writes without waiting for them. It is for
// those who would need a goroutine for each of many.
type Starter interface {
	Device
	// StartWrite begins what WriteAt does. It returns false, and has done nothing, if
	// that is not possible without waiting. Otherwise it may return before the write
	// has ended, and e is told once, perhaps before. p is in use until then.
	StartWrite(ctx context.Context, p []byte, off int64, flags Flags, b *Burst, e Ender) bool
}

// An Ender is told how something has ended.
type Ender interface {
	// Ended is called by a goroutine that must not wait.
	Ended(err error, b *Burst)
}

// A Burst is several things that a goroutine begins or ends in a row. What is done better
// for all of them together, such as sending what they have to say, is left to its end.
// The zero value is an empty one.
type Burst struct{ later []func() }

// Later has f called at the end, behind what was left to it before.
func (b *Burst) Later(f func()) { b.later = append(b.later, f) }

// End does what was left to it, and what is left to it meanwhile. It must come before
// the goroutine waits for anything.
func (b *Burst) End() {
	for i := 0; i < len(b.later); i++ {
		f := b.later[i]
		b.later[i] = nil
		f()
	}
	b.later = b.later[:0]
}
