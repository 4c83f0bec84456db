package budget

import (
	"testing"
	"testing/synctest"
)

func TestBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b Budget
		b.Give(10)
		if !b.TryTake(7) || b.TryTake(4) {
			t.Fatal("tryTake")
		}
		got := make(chan string, 3)
		cancel := make(chan struct{})
		wait := func(name string, n int64) {
			go func() {
				if b.Take(n, cancel) {
					got <- name
				} else {
					got <- name + " gave up"
				}
			}()
			synctest.Wait()
		}
		wait("large", 8)
		wait("small", 1) // must not overtake
		if len(got) > 0 || b.TryTake(1) {
			t.Fatal("somebody overtook")
		}
		b.Give(7)
		if first, second := <-got, <-got; first+second != "largesmall" && first+second != "smalllarge" {
			t.Fatal(first, second)
		}
		wait("last", 5)
		close(cancel)
		if last := <-got; last != "last gave up" {
			t.Fatal(last)
		}
		b.Give(9)
		if b.Free() != 10 {
			t.Fatalf("%d are free", b.Free())
		}
	})
}
