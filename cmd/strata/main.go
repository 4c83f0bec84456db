// Strata serves any stack of layers as a disk.
package main

import (
	"os"

	"github.com/strata-storage/strata/internal/cli"
)

// version is set by the linker; empty in a plain go build.
var version string

func main() { os.Exit(cli.Main(version)) }
