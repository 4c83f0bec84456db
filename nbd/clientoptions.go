package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// enter agrees on everything and begins the transmission.
func (h *handshake) enter() (*wire, error) {
	if err := h.choose(); err != nil {
		return nil, err
	}
	if err := h.export.check(); err != nil {
		return nil, err
	}
	return newWire(h), nil
}

// choose makes h.export complete.
func (h *handshake) choose() error {
	h.export.Name = h.name
	switch h.export.Protocol {
	case "oldstyle":
		return nil
	case "newstyle":
		return h.exportName()
	}
	if err := h.chooseReplies(); err != nil {
		return err
	}
	if h.export.Replies != SimpleReplies {
		err := h.metaContexts(optSetMetaContext, h.name, h.contexts())
		if err != nil && !isRefusal(err) {
			return err
		}
	}
	err := h.info(optGo, h.name)
	var refused *refusedError
	if errors.As(err, &refused) && refused.code == repErrUnsup && h.export.Replies == SimpleReplies {
		return h.exportName()
	}
	return err
}

// chooseReplies agrees on the newest form that both sides know.
func (h *handshake) chooseReplies() error {
	h.export.Replies = SimpleReplies
	for _, o := range []struct {
		form Replies
		opt  option
	}{{ExtendedReplies, optExtendedHeaders}, {StructuredReplies, optStructuredReply}} {
		if o.form < h.target.Replies {
			continue
		}
		err := h.ask(o.opt, nil, nil)
		if err == nil {
			h.export.Replies = o.form
			return nil
		}
		if !isRefusal(err) {
			return err
		}
	}
	return nil
}

// metaContexts lists or sets metadata contexts. They come in the order in
// which the server tells them.
func (h *handshake) metaContexts(opt option, export string, queries []string) error {
	p := appendString(nil, export)
	p = binary.BigEndian.AppendUint32(p, uint32(len(queries)))
	for _, q := range queries {
		p = appendString(p, q)
	}
	h.ids, h.export.Contexts = nil, nil
	err := h.ask(opt, p, func(code replyCode, data []byte) error {
		if code != repMetaContext || len(data) < 5 {
			return violation("%v of %d bytes to %v", code, len(data), opt)
		}
		name, err := stringOf(data[4:], "metadata context")
		if err != nil {
			return err
		}
		if opt == optListMetaContext && len(h.ids) == maxListedContexts {
			return nil // so many are not an error, but no use either
		}
		c := contextID{name, binary.BigEndian.Uint32(data)}
		for _, o := range h.ids {
			if o.name == c.name || opt == optSetMetaContext && o.id == c.id {
				return violation("metadata context %q with id %d after %q with id %d", c.name, c.id, o.name, o.id)
			}
		}
		if opt == optSetMetaContext && len(h.ids) == maxContexts {
			return violation("more than %d metadata contexts", maxContexts)
		}
		h.ids = append(h.ids, c)
		return nil
	})
	if err != nil {
		h.ids = nil
		return err
	}
	for _, c := range h.ids {
		h.export.Contexts = append(h.export.Contexts, c.name)
	}
	return nil
}

// info asks for all that there is to know about an export, with INFO or GO.
func (h *handshake) info(opt option, export string) error {
	p := appendString(nil, export)
	p = binary.BigEndian.AppendUint16(p, 4)
	for _, t := range []infoType{infoExport, infoName, infoDescription, infoBlockSize} {
		p = binary.BigEndian.AppendUint16(p, uint16(t))
	}
	known := false
	err := h.ask(opt, p, func(code replyCode, data []byte) error {
		if code != repInfo || len(data) < 2 {
			return violation("%v of %d bytes to %v", code, len(data), opt)
		}
		t := infoType(binary.BigEndian.Uint16(data))
		known = known || t == infoExport
		return h.learn(t, data[2:])
	})
	if err != nil {
		return err
	}
	if !known {
		return violation("%v accepted without NBD_INFO_EXPORT", opt)
	}
	return nil
}

// learn takes one piece of information. Kinds that it does not know are
// allowed.
func (h *handshake) learn(t infoType, data []byte) (err error) {
	wrong := func(name string, want int) error {
		return violation("%s has %d bytes, must have %d", name, len(data), want)
	}
	switch t {
	case infoExport:
		if len(data) != 10 {
			return wrong("NBD_INFO_EXPORT", 10)
		}
		h.export.setFlags(binary.BigEndian.Uint16(data[8:]))
		return h.export.setSize(binary.BigEndian.Uint64(data))
	case infoName:
		h.export.Name, err = stringOf(data, "export name")
	case infoDescription:
		h.export.Description, err = textOf(data)
	case infoBlockSize:
		if len(data) != 12 {
			return wrong("NBD_INFO_BLOCK_SIZE", 12)
		}
		return h.export.setBlockSizes(binary.BigEndian.Uint32(data),
			binary.BigEndian.Uint32(data[4:]), binary.BigEndian.Uint32(data[8:]))
	}
	return err
}

// exportName begins the transmission the old way, in which a server can only
// hang up on a name that it does not like.
func (h *handshake) exportName() error {
	if err := h.send(optExportName, []byte(h.name)); err != nil {
		return err
	}
	n := 10
	if h.zeroes {
		n += exportNameReplyZeroes
	}
	p := make([]byte, n)
	if err := h.read(p); err != nil {
		return fmt.Errorf("%v for %q, which the server may not have: %w", optExportName, h.name, err)
	}
	h.export.setFlags(binary.BigEndian.Uint16(p[8:]))
	return h.export.setSize(binary.BigEndian.Uint64(p))
}

// list asks for the names and descriptions of the exports.
func (h *handshake) list() ([]ExportInfo, error) {
	if !h.fixed() {
		return nil, fmt.Errorf("the server is %s, which cannot list exports", h.export.Protocol)
	}
	var all []ExportInfo
	bytes := 0
	err := h.ask(optList, nil, func(code replyCode, data []byte) error {
		if code != repServer || len(data) < 4 {
			return violation("%v of %d bytes to %v", code, len(data), optList)
		}
		if bytes += len(data); bytes > 64<<20 {
			return violation("list of exports longer than 64 MiB")
		}
		n := int64(binary.BigEndian.Uint32(data))
		if n > int64(len(data)-4) {
			return violation("export name of %d bytes in a reply of %d bytes", n, len(data))
		}
		name, err := stringOf(data[4:4+n], "export name")
		if err != nil {
			return err
		}
		text, err := textOf(data[4+n:])
		if err != nil {
			return err
		}
		all = append(all, ExportInfo{Name: name, Description: text, Size: -1})
		return nil
	})
	return all, err
}

// describe completes what is known about a listed export, as far as the
// server helps.
func (h *handshake) describe(e *ExportInfo) error {
	text := e.Description
	fresh := ExportInfo{Name: e.Name, Description: text, Size: -1,
		Protocol: h.export.Protocol, Replies: h.export.Replies, TLS: h.export.TLS}
	h.export = fresh
	if h.export.Replies != SimpleReplies {
		if err := h.metaContexts(optListMetaContext, e.Name, nil); err != nil && !isRefusal(err) {
			return err
		}
	}
	contexts := slices.Clone(h.export.Contexts)
	if err := h.info(optInfo, e.Name); isRefusal(err) {
		h.export = fresh
		h.export.Contexts = contexts
	} else if err != nil {
		return err
	}
	name := e.Name
	*e = h.export
	e.Name = name
	return nil
}

// textOf reads a description.
func textOf(p []byte) (string, error) {
	text, err := stringOf(p, "export description")
	return clean([]byte(text)), err
}
