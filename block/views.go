package block

import "context"

// A Viewer is a device that has further devices under names: an origin has
// its snapshots. A server that exports it as E exports them as E@NAME.
//
// It is an interface of its own, to be asked for, because most devices have
// none. A layer over a Viewer is no Viewer, unless it says what the views of
// its device are to it: block.Pass does not pass views on.
type Viewer interface {
	Device

	// Views returns the names, in the order in which they are to be shown.
	// Names are not empty and have neither "@" nor "/".
	Views(ctx context.Context) ([]string, error)

	// View opens the view of a name; ErrNoView says that there is none. With
	// probe the caller only wants to know about it: what does not exist is
	// not created, even by a Viewer that else would.
	//
	// The view shares its writes with every other open view of that name. It
	// must be closed before the Viewer is.
	View(ctx context.Context, name string, probe bool) (View, error)
}

// A View is an open view.
type View struct {
	Device
	// ID is equal for two views of a Viewer that are the same disk. A name
	// may stand for another disk after a while; an ID never does.
	ID string
}
