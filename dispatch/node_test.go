package dispatch_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
)

// A node is a dispatcher with functions of several projects.
type node struct {
	*bench
	targets map[lambent.Name]lambent.Target // guarded by mu; but for reserve, written before there are calls
}

func newNode(t *testing.T, s *script, change ...func(*dispatch.Config)) *node {
	n := &node{targets: map[lambent.Name]lambent.Target{}}
	n.bench = newBench(t, s, append(change, func(c *dispatch.Config) {
		c.Resolve = func(name lambent.Name) (lambent.Target, error) {
			if name.Qualifier == lambent.Latest {
				name.Qualifier = ""
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.targets[name], nil
		}
	})...)
	return n
}

func (n *node) function(project, name string, memoryMB int) {
	c := lambent.Config{Runtime: "r", MemoryMB: memoryMB, Timeout: 10 * time.Second}.WithDefaults()
	full := lambent.Name{Project: project, Function: name}
	n.targets[full] = lambent.Target{Revision: lambent.NewRevision(full, lambent.Latest, &c), Scaling: &lambent.Scaling{}}
}

// minimum has so many instances be ready from when the function has changed, or is called.
func (n *node) minimum(project, function string, least int) lambent.Name {
	name := lambent.Name{Project: project, Function: function}
	t := n.targets[name]
	t.Scaling = &lambent.Scaling{MinInstances: least}
	n.targets[name] = t
	return name
}

func (n *node) call(project, function string) *reply {
	r := &reply{}
	r.err = n.Invoke(context.Background(), &lambent.Invocation{ID: lambent.NewID(), Target: lambent.Name{Project: project, Function: function}}, r)
	return r
}

// served counts the calls of each function.
func (n *node) served() map[string]int {
	counts := map[string]int{}
	for _, u := range n.records() {
		counts[u.Function]++
	}
	return counts
}

// What instances are promised together is never more than the node's memory, and
// idle ones give way, those first that are worth least.
func TestMemoryIsPromisedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{invoke: sleeper(time.Second)}, func(c *dispatch.Config) { c.MemoryMB = 1024 })
		n.function("a", "small", 128)
		n.function("a", "big", 1024)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { n.call("a", "small") })
		}
		time.Sleep(hesitation)
		synctest.Wait()
		if got := n.driver.Alive(); got != 8 {
			t.Errorf("%d instances of 128 MB in 1024", got)
		}
		wg.Wait()
		begun := time.Now()
		if r := n.call("a", "big"); r.err != nil {
			t.Error(r.err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("%v until the idle ones gave way", took)
		}
		synctest.Wait()
		if got := n.driver.Alive(); got != 1 {
			t.Errorf("%d instances beside one that has all the memory", got)
		}
	})
}

// Of idle instances the one goes whose start takes least, whichever was used last.
func TestDearOnesStay(t *testing.T) {
	for _, first := range []string{"dear", "cheap"} {
		synctest.Test(t, func(t *testing.T) {
			hour := time.Hour
			n := newNode(t, &script{}, func(c *dispatch.Config) { c.MaxInstances, c.KeepAlive = 2, &hour })
			n.guest.init = func(_ context.Context, k int) error {
				if (k == 1) == (first == "dear") {
					time.Sleep(time.Second)
				}
				return nil
			}
			last := map[string]string{"dear": "cheap", "cheap": "dear"}[first]
			for _, f := range []string{first, last, "new"} {
				n.function("a", f, 128)
				n.call("a", f)
			}
			n.call("a", "dear")
			if r := n.records(); r[3].Function != "dear" || r[3].Cold {
				t.Errorf("after %s and %s the one that takes a second to start gave way: %+v", first, last, r[3])
			}
		})
	}
}

// A project that floods the node does not keep another out, and has as much of it
// as the other while both want more.
func TestProjectsShareTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{invoke: sleeper(100 * time.Millisecond)}, func(c *dispatch.Config) { c.MaxInstances = 10 })
		n.function("a", "flood", 128)
		n.function("b", "other", 128)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		flood := func(project, function string, clients int) {
			for range clients {
				wg.Go(func() {
					for ctx.Err() == nil {
						n.call(project, function)
					}
				})
			}
		}
		flood("a", "flood", 200)
		time.Sleep(10 * time.Second)
		begun := time.Now()
		if r := n.call("b", "other"); r.err != nil {
			t.Error(r.err)
		}
		if took := time.Since(begun); took > 500*time.Millisecond {
			t.Errorf("beside a flood a call takes %v", took)
		}
		flood("b", "other", 50)
		time.Sleep(5 * time.Second)
		before := n.served()
		time.Sleep(60 * time.Second)
		after := n.served()
		a, o := after["flood"]-before["flood"], after["other"]-before["other"]
		if share := float64(o) / float64(a+o); share < 0.48 || share > 0.52 {
			t.Errorf("%d and %d calls: the share is %.3f", a, o, share)
		}
		cancel()
		wg.Wait()
	})
}

// What is larger than the node is refused, and keeps nobody else waiting.
func TestLargerThanTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{}, func(c *dispatch.Config) { c.MemoryMB = 512 })
		n.function("a", "giant", 1024)
		n.function("a", "small", 512)
		if r := n.call("a", "giant"); !lambent.Is(r.err, lambent.Unavailable) {
			t.Errorf("got %v", r.err)
		}
		name := lambent.Name{Project: "a", Function: "giant"}
		if err := n.Prepare(t.Context(), n.targets[name].Revision, nil); !lambent.Is(err, lambent.Unavailable) {
			t.Errorf("a deploy: %v", err)
		}
		wantBody(t, n.call("a", "small"), "1")
	})
}

// Who gave up keeps nobody out of a place that is too small for them, whether or
// not their function has an instance.
func TestWhoGaveUpWaitsForNoPlace(t *testing.T) {
	test := func(busyMB, bigMB int, runs bool) func(*testing.T) {
		return func(t *testing.T) {
			n := newNode(t, &script{invoke: sleeper(5 * time.Second)}, func(c *dispatch.Config) { c.MemoryMB = 1024 })
			n.function("a", "busy", busyMB)
			n.function("b", "big", bigMB)
			n.function("c", "small", 256)
			var wg sync.WaitGroup
			wg.Go(func() { n.call("a", "busy") })
			if runs {
				wg.Go(func() { n.call("b", "big") })
			}
			time.Sleep(time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			wg.Go(func() {
				n.Invoke(ctx, &lambent.Invocation{ID: lambent.NewID(), Target: lambent.Name{Project: "b", Function: "big"}}, &reply{})
			})
			synctest.Wait()
			begun := time.Now()
			r := n.call("c", "small")
			if took := time.Since(begun); r.err != nil || took < 5*time.Second || took > 6500*time.Millisecond {
				t.Errorf("beside what nobody wants any more a call takes %v: %v", took, r.err)
			}
			wg.Wait()
		}
	}
	t.Run("without", func(t *testing.T) { synctest.Test(t, test(512, 1024, false)) })
	t.Run("with", func(t *testing.T) { synctest.Test(t, test(256, 512, true)) })
}

// Who is next and fits has a place at once, though another waits for a larger one.
func TestNextHasAPlaceThatFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{invoke: sleeper(5 * time.Second)}, func(c *dispatch.Config) { c.MemoryMB = 1024 })
		n.function("a", "small", 256)
		n.function("b", "big", 1024)
		n.function("c", "busy", 512)
		var wg sync.WaitGroup
		wg.Go(func() { n.call("c", "busy") })
		time.Sleep(time.Second)
		wg.Go(func() { n.call("b", "big") })
		synctest.Wait()
		begun := time.Now()
		r := n.call("a", "small")
		if took := time.Since(begun); r.err != nil || took > 5500*time.Millisecond {
			t.Errorf("beside one who waits for more a call takes %v: %v", took, r.err)
		}
		wg.Wait()
	})
}

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

// Code can be deployed to a server that has more to do than it can: its trial start waits
// for its turn as a call would, also where the new code is of the function that is flooded.
func TestDeployUnderOverload(t *testing.T) {
	for _, deployed := range []string{"flooded", "other"} {
		t.Run(deployed, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, &script{invoke: sleeper(time.Second)}, func(c *dispatch.Config) { c.MaxInstances = 2 })
				n.function("a", "flooded", 128)
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() {
						for ctx.Err() == nil {
							n.call("a", "flooded")
						}
					})
				}
				time.Sleep(5 * time.Second)
				name := lambent.Name{Project: "a", Function: deployed}
				c := lambent.Config{Runtime: "r", MemoryMB: 128, Code: "new", Timeout: 10 * time.Second}.WithDefaults()
				begun := time.Now()
				if err := n.Prepare(ctx, lambent.NewRevision(name, lambent.Latest, &c), nil); err != nil {
					t.Errorf("after %v: %v", time.Since(begun), err)
				}
				cancel()
				wg.Wait()
			})
		})
	}
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

// Whoever can get no place, as others keep theirs whatever the demand, is told so.
func TestNoPlaceEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{}, func(c *dispatch.Config) { c.MaxInstances = 1 })
		n.function("a", "kept", 128)
		n.function("a", "f", 128)
		keep := func(least int) {
			n.Changed(n.minimum("a", "kept", least))
			synctest.Wait()
			n.call("a", "kept")
		}
		keep(1)
		begun := time.Now()
		r := n.call("a", "f")
		if !lambent.Is(r.err, lambent.Throttled) || !strings.Contains(r.err.Error(), "no room") || time.Since(begun) != 30*time.Second {
			t.Errorf("after %v: %v", time.Since(begun), r.err)
		}
		keep(0)
		wantBody(t, n.call("a", "f"), "2")
	})
}

// One that can get no place takes none from those that have one, whether its obstacle
// is a minimum or a call that takes long.
func TestWhoDoesNotFitIsPassedOver(t *testing.T) {
	test := func(least int, long time.Duration) func(*testing.T) {
		return func(t *testing.T) {
			n := newNode(t, &script{invoke: func(_ context.Context, _ *scripted, inv *lambent.Invocation, out lambent.Reply) error {
				if inv.Target.Function == "kept" {
					time.Sleep(long)
				}
				answer(out, "ok")
				return nil
			}}, func(c *dispatch.Config) { c.MemoryMB = 1024 })
			n.function("a", "kept", 512)
			n.function("b", "big", 768)
			for _, p := range []string{"c", "d", "e"} {
				n.function(p, "small", 128)
			}
			n.Changed(n.minimum("a", "kept", least))
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
			defer cancel()
			var wg sync.WaitGroup
			steadily := func(call func()) {
				wg.Go(func() {
					for ctx.Err() == nil {
						call()
						time.Sleep(time.Second)
					}
				})
			}
			wg.Go(func() { n.call("a", "kept") })
			var served, late atomic.Int32
			for _, p := range []string{"c", "d", "e"} {
				steadily(func() {
					begun := time.Now()
					if r := n.call(p, "small"); r.err != nil {
						t.Errorf("after %v: %v", time.Since(begun), r.err)
					}
					served.Add(1)
					if time.Since(begun) > time.Second {
						late.Add(1)
					}
				})
			}
			time.Sleep(time.Minute)
			steadily(func() { wg.Go(func() { n.call("b", "big") }) })
			wg.Wait()
			if served.Load() < 3*300 || late.Load() > 9 { // it is tried again after a minute, and then after two
				t.Errorf("%d calls of small functions, %d of them late", served.Load(), late.Load())
			}
		}
	}
	t.Run("minimum", func(t *testing.T) { synctest.Test(t, test(1, 0)) })
	t.Run("long", func(t *testing.T) { synctest.Test(t, test(0, 9*time.Minute)) })
}

// Who was passed over, so that another has what is free, has a place as soon as those that are
// idle can give it.
func TestPassedOverHasAPlaceInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{invoke: func(_ context.Context, _ *scripted, inv *lambent.Invocation, out lambent.Reply) error {
			if inv.Target.Function == "kept" {
				time.Sleep(20 * time.Second)
			}
			answer(out, "ok")
			return nil
		}}, func(c *dispatch.Config) { c.MemoryMB = 1024 })
		n.function("a", "kept", 512)
		n.function("b", "big", 768)
		n.function("c", "small", 512)
		var wg sync.WaitGroup
		wg.Go(func() { n.call("a", "kept") })
		time.Sleep(time.Second)
		begun := time.Now()
		wg.Go(func() {
			time.Sleep(time.Second)
			r := n.call("c", "small")
			if took := time.Since(begun); r.err != nil || took < 5*time.Second || took > 6*time.Second {
				t.Errorf("the one that fits: after %v: %v", took, r.err)
			}
		})
		r := n.call("b", "big")
		if took := time.Since(begun); r.err != nil || took < 18*time.Second || took > 20*time.Second {
			t.Errorf("after %v: %v", took, r.err)
		}
		wg.Wait()
	})
}

// A minimum that is lowered lets its instances go to who waits.
func TestLoweredMinimumGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{}, func(c *dispatch.Config) { c.MaxInstances, c.KeepAlive = 1, new(time.Hour) })
		n.function("a", "kept", 128)
		n.function("a", "f", 128)
		name := lambent.Name{Project: "a", Function: "kept"}
		keep := func(least int) {
			target := n.targets[name]
			target.Scaling = &lambent.Scaling{MinInstances: least}
			n.targets[name] = target
		}
		keep(1)
		n.call("a", "kept")
		done := make(chan *reply)
		begun := time.Now()
		go func() { done <- n.call("a", "f") }()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		keep(0)
		n.Changed(name)
		if r := <-done; r.err != nil || time.Since(begun) > 3*time.Second {
			t.Errorf("after %v: %v", time.Since(begun), r.err)
		}
	})
}
