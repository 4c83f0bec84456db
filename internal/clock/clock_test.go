package clock

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestSystemIsVirtualInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin, fired := System{}.Now(), make(chan struct{})
		System{}.AfterFunc(time.Hour, func() { close(fired) })
		if stop := (System{}).AfterFunc(2*time.Hour, func() { t.Error("a stopped timer fired") }); !stop() {
			t.Error("stop came too late")
		}
		<-fired
		if d := (System{}).Now() - begin; d != time.Hour {
			t.Errorf("an hour took %v", d)
		}
		time.Sleep(2 * time.Hour)
	})
}

func TestBootNeverGoesBack(t *testing.T) {
	t.Parallel()
	last := Boot{}.Now()
	for range 1000 {
		now := Boot{}.Now()
		if now < last {
			t.Fatalf("%v after %v", now, last)
		}
		last = now
	}
}
