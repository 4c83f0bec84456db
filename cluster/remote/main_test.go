package remote

import (
	"testing"

	"go.uber.org/goleak"
)

// Nothing that a partner does leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
