package dispatch_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
)

// As many instances as are to be ready are, without a call, and after one died.
func TestMinInstancesAreReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{init: func(context.Context, int) error { time.Sleep(time.Second); return nil }}
		b := newBench(t, s)
		b.scaling.MinInstances = 2
		b.Changed(b.rev.Name)
		time.Sleep(5 * time.Second)
		if got := b.Snapshot(); got.Idle != 2 {
			t.Fatalf("%+v", got)
		}
		begun := time.Now()
		b.many(2)
		if took := time.Since(begun); took > 0 {
			t.Errorf("a call at what is ready takes %v", took)
		}
		for _, u := range b.records() {
			if u.Cold {
				t.Error("it is billed as a cold start")
			}
		}
		time.Sleep(24 * time.Hour)
		if got := b.Snapshot(); got.Idle != 2 {
			t.Errorf("a day later: %+v", got)
		}
		s.invoke = func(_ context.Context, in *scripted, _ *lambent.Invocation, _ lambent.Reply) error {
			go in.sandbox.Destroy()
			return errors.New("gone")
		}
		b.call(t.Context())
		time.Sleep(5 * time.Second)
		if got := b.Snapshot(); got.Idle != 2 {
			t.Errorf("after one has ended: %+v", got)
		}
		b.mu.Lock()
		b.scaling.MinInstances = 0
		b.mu.Unlock()
		b.Changed(b.rev.Name)
		time.Sleep(time.Hour)
		if got := b.Snapshot(); got.Idle != 0 {
			t.Errorf("none is to be ready any more: %+v", got)
		}
	})
	synctest.Test(t, func(t *testing.T) { // there is no place for all of them, until another has ended
		n := newNode(t, &script{invoke: sleeper(time.Second)}, func(c *dispatch.Config) { c.MaxInstances = 3 })
		n.function("a", "busy", 128)
		n.function("a", "ready", 128)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { n.call("a", "busy") })
		}
		synctest.Wait()
		n.Changed(n.minimum("a", "ready", 2))
		wg.Wait()
		n.function("a", "third", 128)
		for range 10 { // it may have the place of an idle one that nobody is promised
			n.call("a", "third")
		}
		time.Sleep(time.Hour)
		if got := n.Snapshot(); got.Idle != 2 {
			t.Errorf("%+v, want the two that are to be ready", got)
		}
	})
}

// However many start ahead, others' calls do not wait for all of them.
func TestStartsAheadLeaveTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{}, func(c *dispatch.Config) { c.Starts = 2 })
		n.driver.ParkErr = func() error { time.Sleep(time.Second); return nil } // a boot
		n.function("a", "ready", 128)
		n.Changed(n.minimum("a", "ready", 20))
		synctest.Wait()
		n.function("b", "called", 128)
		begun := time.Now()
		if n.call("b", "called"); time.Since(begun) > time.Second {
			t.Errorf("the call is answered after %v", time.Since(begun))
		}
		time.Sleep(time.Minute)
		if got := n.Snapshot(); got.Idle < 20 {
			t.Errorf("%+v", got)
		}
	})
}

// A call whose own function starts ahead does not wait for all others that do.
func TestStartsAheadAreWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{}, func(c *dispatch.Config) { c.Starts = 2 })
		n.driver.ParkErr = func() error { time.Sleep(time.Second); return nil } // a boot
		n.function("a", "many", 128)
		n.function("a", "called", 128)
		n.Changed(n.minimum("a", "many", 6))
		synctest.Wait()
		n.Changed(n.minimum("a", "called", 1))
		synctest.Wait()
		begun := time.Now()
		if n.call("a", "called"); time.Since(begun) > time.Second {
			t.Errorf("the call is answered after %v", time.Since(begun))
		}
		time.Sleep(time.Minute)
		if got := n.Snapshot(); got.Idle < 7 {
			t.Errorf("%+v", got)
		}
	})
}

// The minimum of code that crashes is not tried without end at the first pause.
func TestMinBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{init: func(context.Context, int) error {
			time.Sleep(10 * time.Millisecond)
			return &lambent.Fault{Kind: lambent.FaultInit, Type: "Boom"}
		}}
		b := newBench(t, s)
		b.scaling.MinInstances = 1
		b.Changed(b.rev.Name)
		time.Sleep(10 * time.Minute)
		if n := s.starts.Load(); n > 40 {
			t.Errorf("%d starts in ten minutes", n)
		}
	})
}
