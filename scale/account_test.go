package scale_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lambent/scale"
)

// TestAccountKeepsItsBounds makes events up for several pools of a function, and holds
// them to what they may have together; and whoever waits is served in the end.
func TestAccountKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := &scale.Account{}
		cfg := scale.Default(128)
		cfg.Max, cfg.Queue, cfg.QueueWait = rapid.IntRange(1, 3).Draw(t, "max"), 10, 0
		cfg.Concurrency = rapid.IntRange(1, 3).Draw(t, "concurrency")
		cfg.Calls = rapid.IntRange(0, 4).Draw(t, "calls")
		cfg.Rate, cfg.Burst, cfg.FreezeAfter = 0, 0, 0
		cfg.Policy = rapid.SampledFrom([]scale.Policy{scale.None{}, scale.Fixed(time.Hour)}).Draw(t, "policy")
		type tenant struct {
			*pool
			h       *host
			busy    []*box // one for each invocation
			waiting []*call
			ended   int
		}
		pools := make([]*tenant, rapid.IntRange(1, 3).Draw(t, "pools"))
		for k := range pools {
			h := &host{places: -1}
			pools[k] = &tenant{pool: scale.NewPool[*box, *call](a, cfg, h), h: h}
		}
		now, trials := time.Duration(0), 0
		gone := func(p *tenant) {
			for ; p.ended < len(p.h.ended); p.ended++ {
				p.Gone(now, p.h.ended[p.ended])
			}
		}
		check := func() {
			var all scale.Stats
			for _, p := range pools {
				for _, c := range p.waiting {
					if c.got != nil {
						p.busy = append(p.busy, c.got)
					}
				}
				p.waiting = slices.DeleteFunc(p.waiting, func(c *call) bool { return c.got != nil || c.refused != 0 })
				s := p.Stats()
				if s.Waiting != len(p.waiting) || s.Running != len(p.busy) {
					t.Fatalf("%+v, with %d waiting and %d running", s, len(p.waiting), len(p.busy))
				}
				all.Idle += s.Idle
				all.Busy += s.Busy
				all.Starting += s.Starting
				all.Ending += s.Ending
				all.Waiting += s.Waiting
				all.Running += s.Running
			}
			switch {
			case all.Busy > cfg.Max:
				t.Fatalf("%+v: more than %d serve", all, cfg.Max)
			case all.Idle+all.Busy+all.Starting+all.Ending > cfg.Max+trials:
				t.Fatalf("%+v: more than %d, and %d trials", all, cfg.Max, trials)
			case cfg.Calls > 0 && all.Running > cfg.Calls:
				t.Fatalf("%+v: more than %d run", all, cfg.Calls)
			case all.Waiting > cfg.Queue:
				t.Fatalf("%+v: more than %d wait", all, cfg.Queue)
			}
		}
		due := func() {
			for a.Next() <= now {
				for _, p := range pools {
					if p.Next() <= now {
						p.Due(now)
					}
				}
			}
		}
		started := func(p *tenant) {
			if p.h.starts > 0 {
				p.h.starts--
				p.Started(now, &box{}, 5*ms)
			}
		}
		free := func(p *tenant, k int) {
			b := p.busy[k]
			p.busy = slices.Delete(p.busy, k, k+1)
			p.Free(now, b, ms)
		}
		for range rapid.IntRange(1, 200).Draw(t, "events") {
			now += time.Duration(rapid.SampledFrom([]int{0, 0, 1, 10, 1000}).Draw(t, "ms")) * ms
			due()
			p := rapid.SampledFrom(pools).Draw(t, "pool")
			switch rapid.IntRange(0, 9).Draw(t, "event") {
			case 0, 1, 2:
				if b, ok := p.Take(now); ok {
					p.busy = append(p.busy, b)
				} else if c := (&call{}); p.Wait(now, scale.Never, c).Reason == 0 {
					p.waiting = append(p.waiting, c)
				}
			case 3, 4:
				if len(p.busy) > 0 {
					free(p, rapid.IntRange(0, len(p.busy)-1).Draw(t, "which"))
				}
			case 5, 6:
				started(p)
			case 7:
				gone(p)
			case 8:
				if p.h.starts > 0 {
					p.h.starts--
					p.Canceled(now)
				}
			case 9:
				if p.Begin() {
					p.h.starts++
					trials++
				}
			}
			check()
		}
		for range 1000 { // nothing more comes
			now += ms
			due()
			for _, p := range pools {
				gone(p)
				for p.h.starts > 0 {
					started(p)
				}
				check()
				for len(p.busy) > 0 {
					free(p, 0)
					check()
				}
			}
		}
		for k, p := range pools {
			if n := len(p.waiting); n > 0 {
				t.Fatalf("%d wait for pool %d for ever: %+v, others %+v, %v", n, k, p.Stats(), pools[(k+1)%len(pools)].Stats(), cfg.Bounds)
			}
		}
	})
}

// An instance counts until it is gone, and the next begins then.
func TestNextWaitsUntilItIsGone(t *testing.T) {
	a := &scale.Account{}
	var pools [2]*pool
	var hosts [2]*host
	for k := range pools {
		cfg := scale.Default(128)
		cfg.Max, cfg.Forecast = 1, false
		hosts[k] = &host{places: -1}
		pools[k] = scale.NewPool[*box, *call](a, cfg, hosts[k])
	}
	before, after := pools[0], pools[1]
	b := warm(t, before, hosts[0], 1, ms, ms)[0]
	before.Take(time.Second)
	if !after.Begin() {
		t.Fatal("a trial is beside them")
	}
	trial := &box{}
	after.Started(time.Second, trial, ms)
	c := wait(t, after, time.Second)
	before.Retire()
	if before.Free(2*time.Second, b, time.Second); c.got != nil || !b.ended {
		t.Errorf("before the other is gone: %v, ended: %v", c.got, b.ended)
	}
	if before.Gone(3*time.Second, b); c.got != trial {
		t.Error("the trial's instance serves nobody")
	}
}
