package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/strata-storage/strata/block"
	"github.com/strata-storage/strata/internal/units"
	"github.com/strata-storage/strata/nbd"
)

// diskInfo is what info tells about a disk.
type diskInfo struct {
	URI  string `json:"disk"`
	Size int64  `json:"size"`
	// Remote is what the server of a remote disk says.
	Remote *remoteInfo `json:"remote,omitempty"`

	ReadOnly       bool     `json:"read_only"`
	Rotational     bool     `json:"rotational"`
	Trim           bool     `json:"trim"`
	FastZero       bool     `json:"fast_zero"`
	FUA            bool     `json:"fua"`
	MinBlock       int      `json:"min_block"`
	PreferredBlock int      `json:"preferred_block"`
	MaxBlock       int      `json:"max_block"`
	Contexts       []string `json:"contexts"`

	Map    []extentInfo `json:"map,omitempty"`
	Totals []totalInfo  `json:"totals,omitempty"`
}

type remoteInfo struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Protocol    string   `json:"protocol"`
	Replies     string   `json:"replies"`
	TLS         string   `json:"tls,omitempty"`
	Flags       []string `json:"flags"`
}

// An extentInfo is a part of the disk. Its type is data, zero (stored zeros),
// hole (not allocated, content unspecified) or hole,zero.
type extentInfo struct {
	Off  int64  `json:"offset"`
	Len  int64  `json:"length"`
	Type string `json:"type"`
}

type totalInfo struct {
	Type    string  `json:"type"`
	Bytes   int64   `json:"bytes"`
	Extents int64   `json:"extents"`
	Percent float64 `json:"percent"`
}

func (e *Env) info() *cobra.Command {
	var asJSON, withMap, all bool
	cmd := &cobra.Command{
		Use:   "info DISK [flags]",
		Short: "Tell all about a disk",
		Long: "Tells what a disk is and can do. DISK is an NBD URI, a file or an expression.\n" +
			"Files are opened for reading only, and what is told is true of such a disk.\n" +
			"With --map it tells where there are data and holes, and how much of each.",
		Example: "  strata info nbd://localhost/vm\n  strata info --map --json disk.img",
		GroupID: groupUse,
		Args:    arguments(1, 1, "one disk"),
		RunE: e.interruptible(func(ctx context.Context, args []string) error {
			if all {
				return e.listExports(ctx, args[0], asJSON)
			}
			d, err := e.inspect(ctx, args[0], withMap)
			switch {
			case err != nil:
				return err
			case asJSON:
				return writeJSON(e.Stdout, d)
			}
			writeInfo(e.Stdout, d)
			return nil
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&withMap, "map", false, "tell where there are data and holes")
	f.BoolVar(&all, "list", false, "tell about all exports of the server, as 'strata list'")
	return cmd
}

func (e *Env) inspect(ctx context.Context, arg string, withMap bool) (d *diskInfo, err error) {
	dev, err := e.openDevice(ctx, arg, 1, toRead)
	if err != nil {
		return nil, err
	}
	defer closing(dev, "the disk", &err)
	i := dev.Info()
	d = &diskInfo{
		URI: arg, Size: i.Size, ReadOnly: i.ReadOnly, Rotational: i.Rotational, Trim: i.Trims,
		FastZero: i.FastZeros, FUA: i.NativeFUA, MinBlock: max(i.MinBlock, 1),
		PreferredBlock: i.PreferredBlock, MaxBlock: i.MaxBlock,
		Contexts: append([]string{block.Allocation}, i.Contexts...),
	}
	if c, ok := dev.(*nbd.Client); ok {
		x := c.Export()
		d.Remote = &remoteInfo{
			Name: x.Name, Description: x.Description, Protocol: x.Protocol,
			Replies: x.Replies.String(), TLS: x.TLS, Flags: append([]string{}, x.Flags...),
		}
		if x.MaxBlock < math.MaxUint32 { // which is no limit
			d.MaxBlock = int(x.MaxBlock)
		}
		d.Contexts = append([]string{}, x.Contexts...)
	}
	if withMap {
		err = d.addMap(ctx, dev)
	}
	return d, err
}

// addMap reads the extents of dev.
func (d *diskInfo) addMap(ctx context.Context, dev block.Device) error {
	d.Map = []extentInfo{}
	for e, err := range block.MergeExtents(dev.Extents(ctx, block.Allocation, 0, d.Size)) {
		if err != nil {
			return fmt.Errorf("read the map: %w", err)
		}
		d.Map = append(d.Map, extentInfo{e.Off, e.Len, extentType(e.Status)})
		d.count(extentType(e.Status), e.Len)
	}
	slices.SortFunc(d.Totals, func(a, b totalInfo) int { return strings.Compare(a.Type, b.Type) })
	return nil
}

func (d *diskInfo) count(kind string, n int64) {
	i := slices.IndexFunc(d.Totals, func(t totalInfo) bool { return t.Type == kind })
	if i < 0 {
		i = len(d.Totals)
		d.Totals = append(d.Totals, totalInfo{Type: kind})
	}
	t := &d.Totals[i]
	t.Bytes += n
	t.Extents++
	t.Percent = 100 * float64(t.Bytes) / float64(d.Size)
}

func extentType(status uint64) string {
	switch status & (block.Hole | block.Zero) {
	case block.Hole | block.Zero:
		return "hole,zero"
	case block.Hole:
		return "hole"
	case block.Zero:
		return "zero"
	}
	return "data"
}

func writeInfo(w io.Writer, d *diskInfo) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s:\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("disk", "%s", d.URI)
	row("size", "%s (%d bytes)", units.Bytes(d.Size), d.Size)
	if r := d.Remote; r != nil {
		row("export", "%s", shown(r.Name))
		if r.Description != "" {
			row("description", "%s", r.Description)
		}
		tls := "no TLS"
		if r.TLS != "" {
			tls = r.TLS
		}
		row("protocol", "%s, %s replies, %s", r.Protocol, r.Replies, tls)
		row("flags", "%s", strings.Join(r.Flags, " "))
	}
	row("read-only", "%s", yesNo(d.ReadOnly))
	row("rotational", "%s", yesNo(d.Rotational))
	row("trim", "%s", yesNo(d.Trim))
	row("fast zero", "%s", yesNo(d.FastZero))
	row("force unit access", "%s", yesNo(d.FUA))
	row("block sizes", "minimum %s, preferred %s, maximum %s", units.Bytes(int64(d.MinBlock)),
		orUnknown(d.PreferredBlock, "4 KiB"), orUnknown(d.MaxBlock, "none"))
	row("contexts", "%s", strings.Join(d.Contexts, " "))
	t.Flush()
	if d.Map == nil {
		return
	}
	fmt.Fprintln(w)
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "offset\tlength\t type\t")
	for _, e := range d.Map {
		fmt.Fprintf(t, "%d\t%d\t %s\t\n", e.Off, e.Len, e.Type)
	}
	t.Flush()
	fmt.Fprintln(w)
	for _, total := range d.Totals {
		extents := "extents"
		if total.Extents == 1 {
			extents = "extent"
		}
		fmt.Fprintf(w, "%s: %s in %d %s, %.1f%%\n", total.Type, units.Bytes(total.Bytes), total.Extents, extents, total.Percent)
	}
}

func orUnknown(n int, otherwise string) string {
	if n == 0 {
		return otherwise
	}
	return units.Bytes(int64(n))
}
