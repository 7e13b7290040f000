package dispatch_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
)

// A gauge counts what runs at a time.
type gauge struct{ now, most atomic.Int32 }

// over runs what takes so long, and counts it.
func (g *gauge) over(d time.Duration) func(context.Context, *scripted, *lambent.Invocation, lambent.Reply) error {
	return func(_ context.Context, in *scripted, _ *lambent.Invocation, out lambent.Reply) error {
		n := g.now.Add(1)
		for most := g.most.Load(); n > most && !g.most.CompareAndSwap(most, n); most = g.most.Load() {
		}
		time.Sleep(d)
		g.now.Add(-1) // with the answer the next one may begin
		answer(out, strconv.Itoa(in.n))
		return nil
	}
}

// release deploys as control does, with or without a trial.
func (b *bench) release(t *testing.T, what string, trial bool) {
	t.Helper()
	b.mu.Lock()
	serves := b.rev
	b.mu.Unlock()
	b.deploy(what)
	b.mu.Lock()
	next := b.rev
	b.rev = serves
	b.mu.Unlock()
	if trial {
		if err := b.Prepare(t.Context(), next, nil); err != nil {
			t.Errorf("deploying %s: %v", what, err)
		}
	}
	b.mu.Lock()
	b.rev = next
	b.mu.Unlock()
	b.Changed(next.Name)
}

// A maximum of one is of all revisions: during deploys no second call runs, nobody waits for
// a deploy, and no deploy for a call.
func TestMaximumHoldsDuringDeploys(t *testing.T) {
	for _, trial := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			g := &gauge{}
			b := newBench(t, &script{invoke: g.over(5 * time.Second)})
			b.scaling.MaxInstances = 1
			begun := time.Now()
			var wg sync.WaitGroup
			for k := range 3 {
				wg.Go(func() {
					if r := b.call(t.Context()); r.err != nil || time.Since(begun) != time.Duration(k+1)*5*time.Second {
						t.Errorf("call %d, trials %v: %v after %v", k, trial, r.err, time.Since(begun))
					}
				})
				synctest.Wait()
				b.release(t, fmt.Sprint("next ", k), trial)
				synctest.Wait()
				if took := time.Since(begun); took != 0 {
					t.Errorf("a deploy takes %v", took)
				}
				if n := b.driver.Alive(); n > 2 {
					t.Errorf("trials %v: %d sandboxes, want the busy one and a trial's", trial, n)
				}
			}
			wg.Wait()
			if n := g.most.Load(); n != 1 {
				t.Errorf("trials %v: %d calls ran at a time", trial, n)
			}
		})
	}
}

// What waits for longer than anybody may behind a call of the revision before is told so.
func TestRefusedBehindTheRevisionBefore(t *testing.T) {
	for _, trial := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, &script{invoke: func(_ context.Context, _ *scripted, _ *lambent.Invocation, out lambent.Reply) error {
				time.Sleep(time.Minute)
				answer(out, "done")
				return nil
			}})
			b.scaling.MaxInstances = 1
			go b.call(t.Context())
			synctest.Wait()
			b.release(t, "next", trial)
			begun := time.Now()
			r := b.call(t.Context())
			if took := time.Since(begun); !lambent.Is(r.err, lambent.Throttled) || !strings.Contains(r.err.Error(), "wait") || took != 30*time.Second {
				t.Errorf("trial %v: %v after %v", trial, r.err, took)
			}
			time.Sleep(time.Minute)
			wantBody(t, b.call(t.Context()), "done")
		})
	}
}

// Starts are counted, whichever revisions they are of.
func TestStartsAreBoundedOverDeploys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{invoke: sleeper(10 * time.Second)}
		b := newBench(t, s, func(c *dispatch.Config) { c.MaxStarts = 1 })
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for k := range 4 {
			for range 10 {
				wg.Go(func() { b.call(ctx) })
			}
			time.Sleep(10 * time.Millisecond)
			b.release(t, fmt.Sprint(k), false)
		}
		synctest.Wait()
		if n := s.starts.Load(); n != 10 {
			t.Errorf("%d starts at once, want 10", n)
		}
		cancel()
		wg.Wait()
	})
}

// The line is as long as it may be, whichever revisions are waited for.
func TestQueueIsBoundedOverDeploys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: sleeper(time.Second)}, func(c *dispatch.Config) { c.MaxQueue = 3 })
		b.scaling.MaxInstances = 1
		var refused atomic.Int32
		var wg sync.WaitGroup
		for k := range 4 {
			for range 3 {
				wg.Go(func() {
					if r := b.call(t.Context()); lambent.Is(r.err, lambent.Throttled) {
						refused.Add(1)
					} else if r.err != nil {
						t.Error(r.err)
					}
				})
			}
			synctest.Wait()
			b.release(t, fmt.Sprint(k), false)
		}
		wg.Wait()
		if n := refused.Load(); n != 12-3-1 { // three wait, and one runs
			t.Errorf("%d of 12 were refused", n)
		}
	})
}

// two has a function with versions 1 and 2.
func (n *node) two(name string, s *lambent.Scaling, change func(*lambent.Config)) [2]lambent.Name {
	c := lambent.Config{Runtime: "r", MemoryMB: 128, Timeout: 10 * time.Second}.WithDefaults()
	if change != nil {
		change(&c)
	}
	var names [2]lambent.Name
	for k := range names {
		names[k] = lambent.Name{Project: "default", Function: name, Qualifier: fmt.Sprint(k + 1)}
		n.targets[names[k]] = lambent.Target{Revision: lambent.NewRevision(names[k], names[k].Qualifier, &c), Scaling: s}
	}
	return names
}

// Two versions that are called all the time share what the function may have, without a
// start for each call.
func TestVersionsShareTheMaximum(t *testing.T) {
	for _, concurrency := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			g := &gauge{}
			s := &script{invoke: g.over(20 * time.Millisecond), init: func(context.Context, int) error { time.Sleep(10 * time.Millisecond); return nil }}
			n := newNode(t, s)
			names := n.two("f", &lambent.Scaling{MaxInstances: 2}, func(c *lambent.Config) { c.Concurrency = concurrency })
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var longest [2]atomic.Int64
			var served [2]atomic.Int64
			var wg sync.WaitGroup
			for k, name := range names {
				for range 8 * concurrency {
					wg.Go(func() {
						for ctx.Err() == nil {
							begun := time.Now()
							r := &reply{}
							if err := n.Invoke(context.Background(), &lambent.Invocation{ID: lambent.NewID(), Target: name}, r); err != nil {
								t.Error(err)
							}
							took := int64(time.Since(begun))
							for l := longest[k].Load(); took > l && !longest[k].CompareAndSwap(l, took); l = longest[k].Load() {
							}
							served[k].Add(1)
						}
					})
				}
			}
			wg.Wait()
			a, b := served[0].Load(), served[1].Load()
			if share := float64(a) / float64(a+b); share < 0.4 || share > 0.6 || a+b < int64(concurrency)*2*50*60*8/10 {
				t.Errorf("concurrency %d: %d and %d calls", concurrency, a, b)
			}
			if m := int(g.most.Load()); m > 2*concurrency {
				t.Errorf("concurrency %d: %d run at a time", concurrency, m)
			}
			for k := range longest {
				if l := time.Duration(longest[k].Load()); l > 2*time.Second {
					t.Errorf("concurrency %d: one of version %d took %v", concurrency, k+1, l)
				}
			}
			if starts := s.starts.Load(); starts > 60*10 {
				t.Errorf("concurrency %d: %d starts in a minute", concurrency, starts)
			}
		})
	}
}

// One version's idle instance gives way to another's call, and one that is called seldom
// is not kept out by one that is called without a pause.
func TestIdleVersionGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{invoke: sleeper(10 * time.Millisecond)})
		names := n.two("f", &lambent.Scaling{MaxInstances: 1}, nil)
		call := func(name lambent.Name) {
			r := &reply{}
			begun := time.Now()
			if err := n.Invoke(context.Background(), &lambent.Invocation{ID: lambent.NewID(), Target: name}, r); err != nil || time.Since(begun) > time.Second {
				t.Errorf("%v after %v", err, time.Since(begun))
			}
		}
		for range 3 {
			call(names[0])
			call(names[1])
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				for ctx.Err() == nil {
					call(names[0])
				}
			})
		}
		for ctx.Err() == nil {
			call(names[1])
			time.Sleep(3 * time.Second)
		}
		wg.Wait()
	})
}

// What is reserved counts calls, not instances.
func TestReservedCountsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gauge{}
		n := newNode(t, &script{invoke: g.over(time.Second)})
		names := n.two("f", &lambent.Scaling{Reserved: new(6)}, func(c *lambent.Config) { c.Concurrency = 4 })
		var wg sync.WaitGroup
		begun := time.Now()
		for k := range 24 {
			wg.Go(func() {
				r := &reply{}
				if err := n.Invoke(context.Background(), &lambent.Invocation{ID: lambent.NewID(), Target: names[k%2]}, r); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if m := g.most.Load(); m != 6 {
			t.Errorf("%d run at a time, want 6", m)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("24 calls of a second, six at a time, take %v", took)
		}
	})
}
