package dispatch_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"lambent/dispatch"
)

// What is learnt of a function's callers outlives a deploy, the pool and the server,
// and ends with the function.
func TestHabitsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		learning := func(c *dispatch.Config) { c.KeepAlive = nil }
		slow := func(context.Context, int) error { time.Sleep(500 * time.Millisecond); return nil }
		b := newBench(t, &script{init: slow}, learning)
		for range 20 { // every five minutes
			b.call(t.Context())
			time.Sleep(5 * time.Minute)
		}
		first := b.Learnt()
		if len(first) != 1 || len(first["default/f"]) < 5 {
			t.Fatalf("learnt %v", first)
		}
		b.deploy("another")
		b.Changed(b.rev.Name)
		b.call(t.Context())
		synctest.Wait()
		if again := b.Learnt(); string(again["default/f"]) != string(first["default/f"]) {
			t.Errorf("a deploy has made %v of %v", again, first)
		}

		other := newBench(t, &script{init: slow}, learning, func(c *dispatch.Config) { c.Learnt = first })
		cold := 0
		for range 5 {
			other.call(t.Context())
			time.Sleep(5 * time.Minute)
		}
		for _, u := range other.records() {
			if u.Cold {
				cold++
			}
		}
		if cold > 1 {
			t.Errorf("%d of 5 calls were cold, though it is known when they come", cold)
		}
		other.mu.Lock()
		name := other.rev.Name
		other.rev = nil
		other.mu.Unlock()
		other.Changed(name)
		synctest.Wait()
		if left := other.Learnt(); len(left) != 0 {
			t.Errorf("of a function that is not there: %v", left)
		}
	})
}
