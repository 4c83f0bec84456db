package pace

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := Share{Rest: 9}
		done := 0
		for range 1000 {
			s.Try(func() { done++; time.Sleep(time.Second) })
			time.Sleep(time.Second / 10)
		}
		synctest.Wait()
		if done != 10 {
			t.Errorf("in 100 seconds it was done %d times, expected 10, of a second each", done)
		}
	})
}
