package nbd

import (
	"context"
	"fmt"
)

// optionsPerConnection is what List asks for on one connection. Servers hang
// up on clients that ask for too much: nbdkit after 32 options.
const optionsPerConnection = 24

// List tells the exports that the server offers, with all that it tells about
// each. The name in the URI does not matter. Servers need not list every
// export that they have, or any.
func (d *Dialer) List(ctx context.Context, uri string) ([]ExportInfo, error) {
	t, err := d.target(uri)
	if err != nil {
		return nil, err
	}
	var all []ExportInfo
	listed := false
	for done := 0; !listed || done < len(all); {
		err := t.negotiate(ctx, func(h *handshake) (err error) {
			if !listed {
				if all, err = h.list(); err != nil {
					return err
				}
				listed = true
			}
			done, err = h.describeFrom(all, done)
			if err == nil {
				h.leave()
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return all, nil
}

// describeFrom completes exports from the one with index i on and returns the
// first that is left for another connection.
func (h *handshake) describeFrom(all []ExportInfo, i int) (int, error) {
	if err := h.chooseReplies(); err != nil {
		return i, err
	}
	for ; i < len(all) && h.sent+2 <= optionsPerConnection; i++ {
		if err := h.describe(&all[i]); err != nil {
			return i, fmt.Errorf("export %q: %w", all[i].Name, err)
		}
	}
	return i, nil
}
