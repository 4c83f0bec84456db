package source

import "github.com/strata-storage/strata/block"

var _ block.Noter = (*mem)(nil)

// Note returns a note, which lasts as long as the content.
func (d *mem) Note(key string) (string, error) {
	if err := d.gate.Enter(); err != nil {
		return "", err
	}
	defer d.gate.Leave()
	text, _ := d.notes.Load(key)
	s, _ := text.(string)
	return s, nil
}

// SetNote changes a note.
func (d *mem) SetNote(key, text string) error {
	if err := d.gate.Enter(); err != nil {
		return err
	}
	defer d.gate.Leave()
	d.notes.Store(key, text)
	return nil
}
