package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/strata-storage/strata/cluster"
	"github.com/strata-storage/strata/internal/spell"
	"github.com/strata-storage/strata/internal/units"
)

// disks makes options of the flags on disks.
func (s *noding) checkDisks() error {
	c := &s.o.Cluster
	for _, size := range []struct {
		flag, text string
		into       *int64
	}{{"disk-size", s.diskSize, &c.DiskSize}, {"cache", s.cache, &c.Cache}} {
		if size.text == "" {
			continue
		}
		n, err := units.ParseBytes(size.text)
		if err != nil {
			return usagef("--%s: %w", size.flag, err)
		}
		*size.into = n
	}
	for _, text := range s.disks {
		d, err := diskOf(text)
		if err != nil {
			return usagef("--disk %s: %w", text, err)
		}
		c.Disks = append(c.Disks, d)
	}
	if s.weight == "" {
		return nil
	}
	weight, err := units.ParseBytes(s.weight)
	if err != nil {
		return usagef("--weight: %w", err)
	}
	if len(c.Disks) == 0 {
		c.Disks = []cluster.DiskOptions{{Size: c.DiskSize}}
	}
	for i := range c.Disks {
		if c.Disks[i].Weight == 0 {
			c.Disks[i].Weight = weight
		}
	}
	return nil
}

// diskOptions are the options of --disk.
var diskOptions = []string{"size", "weight", "overwrite"}

// mistyped refuses a path whose end looks like an option, so that no file gets the name of
// a mistake.
func mistyped(path string) error {
	i := strings.LastIndex(path, ",")
	if i < 0 {
		return nil
	}
	key, _, valued := strings.Cut(path[i+1:], "=")
	_, before, _ := strings.Cut(path[:i], ",")
	behind := slices.ContainsFunc(strings.Split(before, ","), func(option string) bool {
		key, _, _ := strings.Cut(option, "=")
		return slices.Contains(diskOptions, key)
	})
	if !valued && !behind && !spell.Near(key, diskOptions) {
		return nil
	}
	return fmt.Errorf("unknown option %q%s", key, spell.DidYouMean(key, diskOptions))
}

// diskOf reads PATH[,size=SIZE][,weight=SIZE][,overwrite]. A path may have commas in it.
func diskOf(text string) (d cluster.DiskOptions, err error) {
	for {
		i := strings.LastIndex(text, ",")
		option := text[i+1:]
		key, value, _ := strings.Cut(option, "=")
		var into *int64
		switch {
		case i < 0:
		case option == "overwrite":
			d.Overwrite = true
			text = text[:i]
			continue
		case key == "size":
			into = &d.Size
		case key == "weight":
			into = &d.Weight
		}
		if into == nil {
			d.Path = text
			return d, mistyped(text)
		}
		if *into, err = units.ParseBytes(value); err != nil {
			return d, err
		}
		text = text[:i]
	}
}
