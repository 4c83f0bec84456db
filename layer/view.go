package layer

import (
	"context"
	"errors"
	"fmt"

	"github.com/strata-storage/strata/block"
)

// ViewOptions are the options of View.
type ViewOptions struct {
	_    struct{} `doc:"One of the views of a device: a snapshot of a disk with snapshots." long:"For a snapshot that is to have an export with a name and rules of its own, and for commands on files that no server has open: strata copy 'view(snapshots(\"disk.img\", \"disk.snaps\"), \"monday\")' monday.img. The snapshot must exist when the server starts, and cannot be deleted while it is served. Whether it can be written is for the device to say."`
	Name string   `name:"name" arg:"1" required:"true" doc:"The name of the view."`
}

// View returns a view of dev, which must be a block.Viewer.
func View(dev block.Device, o ViewOptions) (block.Device, error) {
	v, ok := dev.(block.Viewer)
	if !ok {
		return nil, fmt.Errorf("view: the device has no views, snapshots for one: %w", block.ErrInvalid)
	}
	x, err := v.View(context.Background(), o.Name, false)
	if err != nil {
		return nil, fmt.Errorf("view: %w", err)
	}
	return &viewLayer{Pass: block.Pass{Device: x.Device}, under: dev}, nil
}

type viewLayer struct {
	block.Pass
	under block.Device
}

// Close closes the view before the device that it is one of.
func (v *viewLayer) Close() error {
	err := v.Pass.Close()
	if errors.Is(err, block.ErrClosed) {
		return err
	}
	return errors.Join(err, v.under.Close())
}
