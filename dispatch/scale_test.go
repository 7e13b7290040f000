package dispatch_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
)

// A crowd at a function that is done in no time is served by the first instances
// that are there: the starts that have not begun by then are let be.
func TestStartsThatNobodyNeedsAreLetBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{init: func(context.Context, int) error { time.Sleep(20 * time.Millisecond); return nil }, invoke: sleeper(10 * time.Microsecond)}
		b := newBench(t, s, func(c *dispatch.Config) { c.Starts = 2 })
		b.driver.ParkErr = func() error { time.Sleep(20 * time.Millisecond); return nil } // a boot
		for _, r := range b.many(64) {
			if r.err != nil || r.ended != 1 {
				t.Errorf("%v, %d ends", r.err, r.ended)
			}
		}
		time.Sleep(time.Second)
		if n := s.starts.Load(); n > 6 {
			t.Errorf("%d starts for what the first can do", n)
		}
		if got := b.Snapshot(); got.Starting != 0 || got.Busy != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// Calls that take long have an instance each, as soon as there can be.
func TestABurstOfLongCallsHasAnInstanceEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{init: func(context.Context, int) error { time.Sleep(10 * time.Millisecond); return nil }, invoke: sleeper(time.Second)}
		b := newBench(t, s)
		for range 2 { // and once it is known how long they take
			begun := time.Now()
			b.many(100)
			if took := time.Since(begun); took > 1100*time.Millisecond {
				t.Errorf("a hundred calls took %v", took)
			}
		}
		if n := s.starts.Load(); n != 100 {
			t.Errorf("%d starts", n)
		}
	})
}

// An init that crashes is not tried again with every call: meanwhile its last error
// is the answer.
func TestACrashingInitIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := true
		s := &script{init: func(context.Context, int) error {
			time.Sleep(10 * time.Millisecond)
			if broken {
				return &lambent.Fault{Kind: lambent.FaultInit, Type: "Boom"}
			}
			return nil
		}}
		b := newBench(t, s)
		begun := time.Now()
		for time.Since(begun) < time.Minute {
			r := b.call(t.Context())
			if r.result.Fault == nil || r.result.Fault.Type != "Boom" {
				t.Fatalf("got %v, %v", r.err, r.result.Fault)
			}
			time.Sleep(time.Millisecond)
		}
		if n := s.starts.Load(); n < 5 || n > 15 {
			t.Errorf("%d starts in a minute", n)
		}
		billed := 0
		for _, u := range b.records() {
			if u.BilledMS > 0 {
				billed++
			}
		}
		if n := int(s.starts.Load()); billed != n {
			t.Errorf("%d records are billed, of %d starts", billed, n)
		}
		broken = false
		time.Sleep(time.Minute)
		wantBody(t, b.call(t.Context()), strconv.Itoa(int(s.starts.Load())))
	})
}

// What is left to do for an invocation, once its instance is done with it, keeps
// nobody from the instance.
func TestTheNextOneDoesNotWaitForTheLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ran := make(chan string, 2)
		s := &script{invoke: func(_ context.Context, in *scripted, inv *lambent.Invocation, out lambent.Reply) error {
			ran <- inv.ID
			time.Sleep(time.Millisecond)
			answer(out, "done")
			return nil
		}}
		held := make(chan struct{})
		b := newBench(t, s, func(c *dispatch.Config) {
			usage := c.Usage
			c.Usage = func(u *lambent.Usage) error {
				if u.ID == "first" {
					<-held
				}
				return usage(u)
			}
			c.MaxInstances = 1
		})
		var wg sync.WaitGroup
		for _, id := range []string{"first", "second"} {
			wg.Go(func() {
				if err := b.Invoke(context.Background(), &lambent.Invocation{ID: id, Target: lambent.Name{Project: "default", Function: "f"}}, new(reply)); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			})
			synctest.Wait()
		}
		if id := <-ran; id != "first" {
			t.Errorf("%s runs first", id)
		}
		time.Sleep(10 * time.Millisecond)
		select {
		case <-ran:
		default:
			t.Error("the second waits, though the instance is free")
		}
		close(held)
		wg.Wait()
	})
}

// A function's instances are started ten times as many at once as per second, and
// then so many per second.
func TestStartsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: sleeper(time.Minute)}, func(c *dispatch.Config) { c.MaxStarts = 2; c.Limits.MaxTimeout = time.Hour })
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { b.call(ctx) })
		}
		time.Sleep(2100 * time.Millisecond)
		if n := b.guest.starts.Load(); n != 24 {
			t.Errorf("%d are started in two seconds, want 24", n)
		}
		cancel()
		wg.Wait()
	})
}
