package config

// IsPath reports whether Device takes arg for the path of a file, which need
// not exist.
func (l *Loader) IsPath(arg string) bool {
	switch {
	case arg == "":
		return false
	case pathRule.MatchString(arg) || exists(arg):
		return true
	}
	return !uriRule.MatchString(arg) && !schemeRule.MatchString(arg) && !expressionRule.MatchString(arg)
}
