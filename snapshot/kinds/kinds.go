// Package kinds links the kinds of snapshot stores that Strata has into a
// program. Each registers itself. This is the one place that names them.
package kinds

import (
	_ "github.com/strata-storage/strata/snapshot/bitmap"
	_ "github.com/strata-storage/strata/snapshot/legacy"
	_ "github.com/strata-storage/strata/snapshot/ranged"
	_ "github.com/strata-storage/strata/snapshot/transient"
)
