// Package config turns what people write into devices and exports.
//
// The table of constructors, a [Registry], says which sources and layers
// exist and what arguments they take. From it come the functions of the
// configuration language, the output of "strata layers", the errors for wrong
// arguments and the reference pages. [Builtin] is the table of Strata's own
// constructors; a program that has its own adds them with [AddSource],
// [AddLayer] and [AddLayers].
//
// A [Loader] evaluates configuration files and expressions, which are written
// in Starlark. Evaluation opens nothing: it yields a [Config], data that says
// what is to be served, with a tree of [Spec] for every device. A [Set] opens
// the devices of a configuration, serves as the [nbd.Resolver] of a server,
// and moves from one configuration to the next without touching what stays
// the same.
package config
