package config

// Builtin returns the table of Strata's own constructors. Each call returns a
// new one, to which the caller may add.
func Builtin() *Registry {
	r := &Registry{}
	return r
}
