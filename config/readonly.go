package config

import "slices"

// readOnlyArg is the argument of the constructors that can open what they are
// made of for reading only.
const readOnlyArg = "read_only"

// MakeReadOnly forbids writing to the exports and opens what they are made of
// for reading only, so that it need not be writable and other readers can
// have it at the same time: every constructor in their expressions that has
// an argument read_only gets it, unless the expression gives it another
// value.
func (c *Config) MakeReadOnly() {
	made := make(map[*Spec]*Spec)
	for _, x := range c.Exports {
		x.ReadOnly = true
		x.Device = x.Device.allReadOnly(made)
	}
}

// ForReading returns s with everything in it opened for reading only: every
// constructor that has an argument read_only gets it, unless the expression
// gives it another value.
func (s *Spec) ForReading() *Spec { return s.allReadOnly(make(map[*Spec]*Spec)) }

// readOnly returns s with its argument read_only set, if it has one that is
// not given.
func (s *Spec) readOnly() *Spec { return s.with(readOnlyArg) }

// with returns s with an argument set to True, if it has one of that name that
// is not given.
func (s *Spec) with(arg string) *Spec {
	for i, p := range s.cons.Params {
		if p.Name == arg && p.Type == TypeBool && s.values[i] == nil {
			c := *s
			c.values = slices.Clone(s.values)
			c.values[i] = true
			return &c
		}
	}
	return s
}

// allReadOnly is readOnly of s and of all that it is made of. What is made
// goes into the map, so that a device mentioned twice stays one device.
func (s *Spec) allReadOnly(made map[*Spec]*Spec) *Spec {
	if done := made[s]; done != nil {
		return done
	}
	c := *s
	c.devs = allReadOnly(s.devs, made)
	c.values = slices.Clone(s.values)
	for i, v := range c.values {
		switch v := v.(type) {
		case *Spec:
			c.values[i] = v.allReadOnly(made)
		case []*Spec:
			c.values[i] = allReadOnly(v, made)
		}
	}
	made[s] = c.readOnly()
	return made[s]
}

func allReadOnly(devs []*Spec, made map[*Spec]*Spec) []*Spec {
	all := make([]*Spec, len(devs))
	for i, d := range devs {
		all[i] = d.allReadOnly(made)
	}
	return all
}
