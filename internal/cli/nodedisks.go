package cli

import (
	"strings"

	"github.com/strata-storage/strata/cluster"
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
			return d, nil
		}
		if *into, err = units.ParseBytes(value); err != nil {
			return d, err
		}
		text = text[:i]
	}
}
