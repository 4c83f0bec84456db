package lock_test

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/strata-storage/strata/lock"
	"github.com/strata-storage/strata/lock/locktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLocal(t *testing.T) {
	locktest.Run(t, func(t *testing.T) locktest.Transport {
		var l lock.Local
		return locktest.Transport{Join: l.Join, Lose: func() { l.Revoke() }}
	})
}

func TestFile(t *testing.T) {
	locktest.Run(t, func(t *testing.T) locktest.Transport {
		path := filepath.Join(t.TempDir(), "lock")
		return locktest.Transport{
			Join: func() lock.Lock {
				l, err := lock.File(path)
				if err != nil {
					t.Fatal(err)
				}
				return l
			},
			Lose: func() { replace(t, path) },
		}
	})
}

// replace puts another file with the same content in the place of the file.
func replace(t *testing.T, path string) {
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Error(err)
	}
}
