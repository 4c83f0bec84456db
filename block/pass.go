package block

// Pass is a layer that does nothing: every method is that of the Device in
// it. A layer that changes one operation embeds Pass and defines one method.
// One that changes what the device can do defines Info as well: a method that
// may wait, for one, must honour NoWait or clear Info().NoWait.
type Pass struct{ Device }

// Keep returns dev with a Close that does nothing, for a device that several
// layers share and somebody else closes. It is a Viewer if dev is, and NoterOf
// sees through it.
func Keep(dev Device) Device {
	if v, ok := dev.(Viewer); ok {
		return keepViewer{v}
	}
	return keep{Pass{dev}}
}

type keep struct{ Pass }

func (keep) Close() error { return nil }

// Same is for NoterOf.
func (k keep) Same() Device { return k.Device }

type keepViewer struct{ Viewer }

func (keepViewer) Close() error { return nil }
