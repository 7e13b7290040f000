package dispatch_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lambent"
	"lambent/dispatch"
	"lambent/sandbox/fake"
)

// TestHammerQueue has a short line before few instances, and callers who have deadlines,
// go, or stay: each call ends exactly once, one whose caller is told of a refusal never
// runs, and nobody is left in line.
func TestHammerQueue(t *testing.T) {
	var ran sync.Map // by request
	b := newBench(t, &script{invoke: func(_ context.Context, _ *scripted, inv *lambent.Invocation, out lambent.Reply) error {
		if _, twice := ran.LoadOrStore(inv.ID, true); twice {
			t.Error("a call ran twice")
		}
		time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
		answer(out, "ok")
		return nil
	}}, func(c *dispatch.Config) { c.MaxQueue = 8 })
	b.scaling.MaxInstances = 3
	var served, refused, gone atomic.Int32
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			for n := range 200 {
				ctx, cancel := context.WithCancel(context.Background())
				inv := &lambent.Invocation{ID: lambent.NewID(), Target: lambent.Name{Project: "default", Function: "f"}}
				switch (i + n) % 3 {
				case 0:
					inv.Deadline = time.Now().Add(time.Duration(rand.IntN(2000)) * time.Microsecond)
				case 1:
					time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, cancel)
				}
				r := &reply{}
				r.err = b.Invoke(ctx, inv, r)
				cancel()
				_, has := ran.Load(inv.ID)
				switch {
				case r.err == nil && r.ended == 1 && has:
					served.Add(1)
				case lambent.Is(r.err, lambent.Throttled) && r.ended == 0 && !has:
					refused.Add(1)
				case lambent.Is(r.err, lambent.Canceled) && r.ended == 0 && !has:
					gone.Add(1)
				default:
					t.Errorf("%d ends, %v, ran: %t", r.ended, r.err, has)
				}
			}
		})
	}
	wg.Wait()
	if s := b.Snapshot(); s.Queued != 0 || s.Busy != 0 || s.Idle > 3 {
		t.Errorf("at the end: %+v", s)
	}
	if n := len(b.records()); n != int(served.Load()) {
		t.Errorf("%d records of %d calls served", n, served.Load())
	}
	if served.Load() == 0 || refused.Load() == 0 || gone.Load() == 0 {
		t.Errorf("%d served, %d refused, %d gone: it does not try all", served.Load(), refused.Load(), gone.Load())
	}
}

// TestHammerFreezer has instances frozen as soon as they are idle, by callers who come
// just then, while sandboxes end by themselves: no call is ever in a frozen one.
func TestHammerFreezer(t *testing.T) {
	var boxes sync.Map // by id
	var thawed atomic.Int32
	b := newBench(t, &script{invoke: func(_ context.Context, in *scripted, _ *lambent.Invocation, out lambent.Reply) error {
		v, _ := boxes.Load(in.sandbox.ID())
		box := v.(*fake.Box)
		if box.Frozen.Load() {
			t.Error("a call is in a frozen instance")
		}
		if box.Freezes.Load() > 0 {
			thawed.Add(1)
		}
		time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
		if box.Frozen.Load() {
			t.Error("an instance was frozen under a call")
		}
		if rand.IntN(100) == 0 {
			go in.sandbox.Destroy()
			return errors.New("gone")
		}
		answer(out, "ok")
		return nil
	}}, func(c *dispatch.Config) { c.FreezeAfter = 100 * time.Microsecond })
	b.driver.OnPark = func(x *fake.Box) { boxes.Store(x.ID(), x) }
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 300 {
				if r := b.call(context.Background()); r.err != nil || r.ended != 1 {
					t.Errorf("error %v, %d ends", r.err, r.ended)
				}
				time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
			}
		})
	}
	wg.Wait()
	if thawed.Load() == 0 {
		t.Error("no call was of an instance that had been frozen: it does not try")
	}
}
