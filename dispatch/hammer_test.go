package dispatch_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

// TestHammerNode has three projects, with functions of several sizes, want more of a node than
// it has for minutes: idle instances give way, places change hands, who is too large is passed
// over, instances crash, callers go and deploys try their code, all at the same moments. Each
// call ends once, nothing is promised twice, and in the end all of the node is there for one.
func TestHammerNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const places, memoryMB = 5, 1024
		sizes := map[string]int{"tiny": 64, "small": 128, "half": 512, "big": 768, "all": memoryMB}
		var busy, busyMB atomic.Int32
		n := newNode(t, &script{}, func(c *dispatch.Config) { c.MaxInstances, c.MemoryMB, c.KeepAlive = places, memoryMB, new(time.Hour) })
		n.guest.invoke = func(_ context.Context, in *scripted, inv *lambent.Invocation, out lambent.Reply) error {
			mb := int32(sizes[inv.Target.Function])
			if k, used, alive := busy.Add(1), busyMB.Add(mb), n.driver.Alive(); k > places || used > memoryMB || alive > places {
				t.Errorf("%d instances of %d MB are busy, and %d are there", k, used, alive)
			}
			took := time.Duration(rand.IntN(20)) * 10 * time.Millisecond
			if inv.Target.Function == "half" && rand.IntN(10) == 0 {
				took = 20 * time.Second
			}
			time.Sleep(took)
			busyMB.Add(-mb) // once it has answered the instance is the next one's
			busy.Add(-1)
			if rand.IntN(100) == 0 && mb < memoryMB {
				go in.sandbox.Destroy()
				return errors.New("gone")
			}
			answer(out, "ok")
			return nil
		}
		n.guest.init = func(context.Context, int) error { time.Sleep(10 * time.Millisecond); return nil }
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		var served, refused, gone, passed, tried atomic.Int32
		var wg sync.WaitGroup
		begun := time.Now()
		steadily := func(do func()) {
			wg.Go(func() {
				for ctx.Err() == nil {
					if do(); time.Since(begun)%time.Minute > 40*time.Second {
						time.Sleep(20 * time.Second) // in which those that are idle are there for deploys
					}
					time.Sleep(time.Duration(rand.IntN(50)) * 10 * time.Millisecond)
				}
			})
		}
		for _, project := range []string{"a", "b", "c"} {
			for function, mb := range sizes {
				n.function(project, function, mb)
			}
		}
		for name, target := range n.targets {
			if name.Function == "all" {
				continue
			}
			for k := range 3 {
				steadily(func() {
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					if k == 0 {
						time.AfterFunc(time.Duration(rand.IntN(500))*10*time.Millisecond, cancel)
					}
					came, r := time.Now(), &reply{}
					r.err = n.Invoke(ctx, &lambent.Invocation{ID: lambent.NewID(), Target: name}, r)
					switch {
					case r.err == nil && r.ended == 1:
						served.Add(1)
						if name.Function == "big" && time.Since(came) > 6*time.Second {
							passed.Add(1)
						}
					case lambent.Is(r.err, lambent.Throttled) && r.ended == 0:
						refused.Add(1)
					case lambent.Is(r.err, lambent.Canceled) && r.ended == 0:
						gone.Add(1)
					default:
						t.Errorf("%v: %d ends, %v", name, r.ended, r.err)
					}
				})
			}
			wg.Go(func() {
				for at := 59 * time.Second; ctx.Err() == nil; at += time.Minute {
					if time.Sleep(time.Until(begun.Add(at))); n.Prepare(ctx, target.Revision, nil) == nil {
						tried.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if r := n.call("a", "all"); r.err != nil {
			t.Errorf("what the others have left is not there for one: %v", r.err)
		}
		synctest.Wait()
		if s := n.Snapshot(); s.Queued != 0 || s.Busy != 0 || n.driver.Alive() != 1 {
			t.Errorf("at the end: %+v, %d sandboxes", s, n.driver.Alive())
		}
		if k := len(n.records()); k != int(served.Load())+1 {
			t.Errorf("%d records of %d calls served", k, served.Load()+1)
		}
		t.Logf("%d served with %d starts, %d refused, %d gone, %d passed over, %d tried", served.Load(), n.guest.starts.Load(), refused.Load(), gone.Load(), passed.Load(), tried.Load())
		if served.Load() == 0 || gone.Load() == 0 || passed.Load() == 0 || tried.Load() == 0 || n.guest.starts.Load() < 100 {
			t.Error("it does not try all")
		}
	})
}
