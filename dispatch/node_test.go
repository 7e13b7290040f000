package dispatch_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
)

// An instance that starts for nobody any more gives way to who waits for a place.
func TestIdleAfterStartGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{init: func(context.Context, int) error { time.Sleep(time.Second); return nil }}
		hour := time.Hour
		n := newNode(t, s, func(c *dispatch.Config) { c.MaxInstances = 1; c.KeepAlive = &hour })
		n.function("a", "one", 128)
		n.function("b", "two", 128)
		go n.Prepare(t.Context(), n.targets[lambent.Name{Project: "a", Function: "one"}].Revision, nil)
		time.Sleep(500 * time.Millisecond)
		begun := time.Now()
		r := n.call("b", "two")
		if took := time.Since(begun); r.err != nil || took > 5*time.Second {
			t.Errorf("%v after %v", r.err, took)
		}
	})
}

// Who waits when the server drains is served, though the instance ends.
func TestDrainAfterCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		s := &script{invoke: func(_ context.Context, in *scripted, _ *lambent.Invocation, _ lambent.Reply) error {
			if calls.Add(1) > 1 {
				return nil
			}
			time.Sleep(time.Second)
			go in.sandbox.Destroy()
			return errors.New("gone")
		}}
		n := newNode(t, s, func(c *dispatch.Config) { c.MaxInstances = 1 })
		n.function("a", "one", 128)
		done := make(chan error, 2)
		for range 2 {
			go func() { done <- n.call("a", "one").err }()
			synctest.Wait()
		}
		time.Sleep(500 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begun := time.Now()
		err := n.Close(ctx)
		if took := time.Since(begun); err != nil || took > 5*time.Second {
			t.Errorf("Close: %v after %v", err, took)
		}
		for range 2 {
			t.Log(<-done)
		}
	})
}

// The minimum is there though the platform failed for a moment.
func TestMinAfterPlatformError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{})
		fail := atomic.Bool{}
		fail.Store(true)
		b.driver.ParkErr = func() error {
			if fail.Load() {
				return errors.New("no descriptors")
			}
			return nil
		}
		b.scaling.MinInstances = 2
		b.Changed(b.rev.Name)
		time.Sleep(time.Second)
		fail.Store(false)
		time.Sleep(time.Hour)
		if got := b.Snapshot(); got.Idle != 2 {
			t.Errorf("%+v", got)
		}
	})
}
