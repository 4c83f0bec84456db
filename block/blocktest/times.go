package blocktest

import (
	"os"
	"strconv"
)

// Times returns how many of something random to try where n are usual: n, or as
// many times n as BLOCKTEST_TIMES says in the environment, for tests that have
// all night.
func Times(n int) int {
	times, err := strconv.Atoi(os.Getenv("BLOCKTEST_TIMES"))
	if err != nil || times < 1 {
		return n
	}
	return n * times
}
