// Package layer makes devices out of devices: end to end, side by side, in
// part, slower, safer, or with a function called for each request.
//
// Each constructor takes one device or several, which the result owns, and a
// struct of options whose zero value works. When a constructor returns an
// error, the devices still belong to the caller.
package layer
