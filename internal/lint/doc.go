// Package lint holds the rules of the house as tests: which package may import
// which, how long a file may be, that what is exported is documented.
package lint
