package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/strata-storage/strata/block"
)

// optionData takes the data of an option apart. The option's length is
// authoritative: what does not fit into it, or does not fill it, is an error.
type optionData struct {
	rest []byte
	err  error
}

func (d *optionData) take(n int, what string) []byte {
	if d.err == nil && n > len(d.rest) {
		d.err = fmt.Errorf("%s needs %d bytes, the option has %d left", what, n, len(d.rest))
	}
	if d.err != nil {
		return nil
	}
	p := d.rest[:n]
	d.rest = d.rest[n:]
	return p
}

func (d *optionData) uint16(what string) uint16 {
	if p := d.take(2, what); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (d *optionData) uint32(what string) uint32 {
	if p := d.take(4, what); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

// string takes a string with its length in front.
func (d *optionData) string(what string) string {
	n := d.uint32("the length of " + what)
	if d.err == nil && n > maxString {
		d.err = fmt.Errorf("%s has %d bytes, at most %d are allowed", what, n, maxString)
	}
	p := d.take(int(n), what)
	if d.err == nil {
		if err := checkString(p); err != nil {
			d.err = fmt.Errorf("%s %w", what, err)
		}
	}
	return string(p)
}

// end is the error of everything before, or that something is left over.
func (d *optionData) end() error {
	if d.err == nil && len(d.rest) > 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.rest))
	}
	return d.err
}

// refuseData refuses an option for what is wrong with its data.
func (n *negotiation) refuseData(opt option, err error) {
	n.refuse(opt, repErrInvalid, "%v: %v", opt, err)
}

// info answers INFO, and GO, which opens the export as well.
func (n *negotiation) info(opt option, data []byte) (*session, error) {
	d := optionData{rest: data}
	name := d.string("the export name")
	wanted := make([]infoType, d.uint16("the number of information requests"))
	for i := range wanted {
		if d.err != nil {
			break
		}
		wanted[i] = infoType(d.uint16("an information request"))
	}
	if err := d.end(); err != nil {
		n.refuseData(opt, err)
		return nil, nil
	}
	sess, code, msg := n.open(name, opt == optInfo)
	if sess == nil {
		n.refuse(opt, code, "%s", msg)
		return nil, nil
	}
	export := binary.BigEndian.AppendUint16(nil, uint16(infoExport))
	export = binary.BigEndian.AppendUint64(export, uint64(sess.info.Size))
	export = binary.BigEndian.AppendUint16(export, sess.flags)
	n.reply(opt, repInfo, export)
	if slices.Contains(wanted, infoName) {
		n.reply(opt, repInfo, append(binary.BigEndian.AppendUint16(nil, uint16(infoName)), sess.export.Name...))
	}
	if slices.Contains(wanted, infoDescription) && sess.export.Description != "" {
		n.reply(opt, repInfo, append(binary.BigEndian.AppendUint16(nil, uint16(infoDescription)), sess.export.Description...))
	}
	if slices.Contains(wanted, infoBlockSize) {
		n.reply(opt, repInfo, blockSizeInfo(&sess.info, n.server.limits.Payload))
	}
	n.reply(opt, repAck, nil)
	if opt == optInfo {
		sess.release()
		return nil, nil
	}
	return sess, nil
}

// blockSizeInfo is the answer to a request for NBD_INFO_BLOCK_SIZE. The
// protocol wants powers of two, a minimum of at most 64 KiB and a preferred
// size of at least 512 bytes.
func blockSizeInfo(info *block.Info, payload int) []byte {
	smallest := max(info.MinBlock, 1)
	preferred := info.PreferredBlock
	if preferred == 0 {
		preferred = 4096
	}
	longest := maxPayload(info, payload)
	preferred = max(min(preferred, longest), smallest, 512)
	b := binary.BigEndian.AppendUint16(nil, uint16(infoBlockSize))
	b = binary.BigEndian.AppendUint32(b, uint32(smallest))
	b = binary.BigEndian.AppendUint32(b, uint32(preferred))
	return binary.BigEndian.AppendUint32(b, uint32(longest))
}

// maxPayload is the longest read or write that a client may ask for.
func maxPayload(info *block.Info, payload int) int {
	if info.MaxBlock == 0 || info.MaxBlock >= payload {
		return payload
	}
	return 1 << (bits.Len(uint(info.MaxBlock)) - 1)
}

// deselect forgets the metadata contexts that were selected.
func (n *negotiation) deselect() {
	n.selection.valid, n.selection.chosen = false, nil
}

// metaContext answers LIST_META_CONTEXT and SET_META_CONTEXT. A selection
// replaces the one before, also if it fails.
func (n *negotiation) metaContext(opt option, data []byte) {
	if opt == optSetMetaContext {
		n.deselect()
	}
	if opt == optSetMetaContext && !n.structured {
		n.refuse(opt, repErrInvalid, "structured replies must be agreed on first")
		return
	}
	name, queries, err := parseQueries(data)
	if err != nil {
		n.refuseData(opt, err)
		return
	}
	sess, code, msg := n.open(name, true)
	if sess == nil {
		n.refuse(opt, code, "%s", msg)
		return
	}
	defer sess.release()
	all := append([]string{block.Allocation}, sess.info.Contexts...)
	hidden, err := sess.hidden(all, queries)
	if err != nil {
		n.refuse(opt, repErrTooBig, "%v", err)
		return
	}
	var chosen []metaContext
	for i, context := range append(all, hidden...) {
		if !matchesQuery(context, queries, opt == optListMetaContext) {
			continue
		}
		id := uint32(0)
		if opt == optSetMetaContext {
			id = uint32(i + 1)
			chosen = append(chosen, metaContext{id: id, name: context})
		}
		n.reply(opt, repMetaContext, append(binary.BigEndian.AppendUint32(nil, id), context...))
	}
	n.reply(opt, repAck, nil)
	if opt == optSetMetaContext {
		n.selection.valid, n.selection.export, n.selection.chosen = true, name, chosen
	}
}

// maxHidden bounds the contexts that an option asks for and no list has.
const maxHidden = 64

// hidden are the contexts that are asked for, which the export has beyond all it names.
func (s *session) hidden(all, queries []string) (list []string, err error) {
	has := s.export.HasContext
	if has == nil {
		return nil, nil
	}
	for _, q := range queries {
		if slices.Contains(all, q) || slices.Contains(list, q) || !has(q) {
			continue
		}
		if len(list) == maxHidden {
			return nil, fmt.Errorf("more than %d metadata contexts are asked for that are not listed", maxHidden)
		}
		list = append(list, q)
	}
	return list, nil
}

func parseQueries(data []byte) (name string, queries []string, err error) {
	d := optionData{rest: data}
	name = d.string("the export name")
	count := d.uint32("the number of queries")
	for i := uint32(0); i < count && d.err == nil; i++ {
		q := d.string("a query")
		if d.err == nil && !strings.Contains(q, ":") {
			d.err = errors.New("a query must have the form namespace:leaf")
		}
		queries = append(queries, q)
	}
	return name, queries, d.end()
}

// matchesQuery reports whether a context is asked for. No query at all lists
// everything; "namespace:" lists, but never selects, a whole namespace.
func matchesQuery(context string, queries []string, list bool) bool {
	if list && len(queries) == 0 {
		return true
	}
	namespace, _, _ := strings.Cut(context, ":")
	for _, q := range queries {
		if q == context || list && q == namespace+":" {
			return true
		}
	}
	return false
}
