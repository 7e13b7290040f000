package scale_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lambent/scale"
)

type tenant struct {
	scale.Claim
	has   int // instances
	wants bool
}

func newTenant(project string, k, memoryMB int) *tenant {
	return &tenant{Claim: scale.Claim{Project: project, Pool: fmt.Sprint("p", k), MemoryMB: memoryMB}}
}

// TestNodePromisesOnce: whatever is asked in whatever order, neither memory nor
// places are promised twice, and who wants a place has one in the end.
func TestNodePromisesOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := &scale.Node[*tenant]{MaxInstances: rapid.IntRange(1, 8).Draw(t, "instances"), MemoryMB: rapid.SampledFrom([]int{0, 1000, 3000}).Draw(t, "MB")}
		now := time.Duration(0)
		var all []*tenant
		for k := range rapid.IntRange(1, 5).Draw(t, "pools") {
			p := newTenant(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "project"), k, rapid.SampledFrom([]int{100, 700, 1000}).Draw(t, "size"))
			if !n.Holds(p.MemoryMB) {
				t.Fatalf("%d MB do not fit in %d", p.MemoryMB, n.MemoryMB)
			}
			all = append(all, p)
		}
		give := func() {
			for p, ok := n.Grant(now); ok; p, ok = n.Grant(now) {
				if !p.wants {
					t.Fatal("who wants none is given a place")
				}
				if rapid.Bool().Draw(t, "takes it") {
					if !n.Admit(now, p, false) {
						t.Fatal("a place is kept, and not given")
					}
					p.has++
				}
				p.wants = false
				n.Return(p)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"admit": func(t *rapid.T) {
				p, ahead := rapid.SampledFrom(all).Draw(t, "pool"), rapid.Bool().Draw(t, "ahead")
				switch {
				case n.Admit(now, p, ahead):
					p.has++
				case !ahead:
					p.wants = true
					give()
				}
			},
			"leave": func(t *rapid.T) {
				if p := rapid.SampledFrom(all).Draw(t, "pool"); p.has > 0 {
					n.Yields(p, time.Second, false)
					p.has--
					n.Leave(p)
					give()
				}
			},
			"forget": func(t *rapid.T) {
				p := rapid.SampledFrom(all).Draw(t, "pool")
				p.wants = false
				n.Forget(p)
				give()
			},
			"time": func(t *rapid.T) {
				now += 5 * time.Second
				give()
				instances, mb := 0, 0
				for _, p := range all {
					instances += p.has
					mb += p.has * p.MemoryMB
				}
				for _, p := range all {
					if p.wants && instances < n.MaxInstances && (n.MemoryMB == 0 || mb+p.MemoryMB <= n.MemoryMB) {
						t.Fatalf("%s of %d MB has no place after 5 s, and %d MB in %d instances are all that is used", p.Pool, p.MemoryMB, mb, instances)
					}
				}
			},
			"": func(t *rapid.T) {
				instances, mb, waiting := 0, 0, 0
				for _, p := range all {
					instances += p.has
					mb += p.has * p.MemoryMB
					if p.wants {
						waiting++
					}
				}
				if instances > n.MaxInstances || n.MemoryMB > 0 && mb > n.MemoryMB {
					t.Fatalf("%d instances of %d, %d MB of %d", instances, n.MaxInstances, mb, n.MemoryMB)
				}
				if n.Waiting() != waiting {
					t.Fatalf("%d wait, want %d", n.Waiting(), waiting)
				}
			},
		})
		for range all {
			for _, p := range all {
				for ; p.has > 0; p.has-- {
					n.Leave(p)
				}
			}
			give()
		}
		if n.Waiting() > 0 {
			t.Fatalf("%d wait for places that all others have left", n.Waiting())
		}
	})
}

// TestNodeShares: two projects that want all places each have half of them, however long
// the runs of either take and whether or not these end at the same moments, and keep what
// they have: a place that changes hands costs a cold start, and is nobody's until that is over.
func TestNodeShares(t *testing.T) {
	for _, runs := range [][2]time.Duration{{20 * ms, 20 * ms}, {100 * ms, 100 * ms}, {time.Second, time.Second}, {100 * ms, time.Second}, {10 * ms, 300 * ms}} {
		for _, spread := range []float64{0, 0.05, 0.5} {
			testShares(t, runs, spread, 0, 0, 10)
			testShares(t, runs, spread, 10*ms, 30*ms, 25)
		}
	}
}

// testShares is of one spread of runs, where an instance takes a while to end, and another
// to start, and no more than so many places change hands in a second.
func testShares(t *testing.T, runs [2]time.Duration, spread float64, ends, starts time.Duration, most int) {
	const places, long = 10, 100 * time.Second
	random := rand.New(rand.NewPCG(1, 2))
	n := &scale.Node[*tenant]{MaxInstances: places}
	a, b := newTenant("a", 1, 1024), newTenant("b", 2, 1024)
	of := map[*tenant]time.Duration{a: runs[0], b: runs[1]}
	run := func(p *tenant) time.Duration {
		return time.Duration(float64(of[p]) * (1 + spread*(2*random.Float64()-1)))
	}
	type place struct {
		has        *tenant
		gone       bool // its instance ends
		since, end time.Duration
	}
	var all []place
	for range places {
		n.Admit(0, a, false)
		all = append(all, place{a, false, 0, run(a)})
	}
	n.Admit(0, a, false)
	n.Admit(0, b, false)
	used, switches, now := map[*tenant]time.Duration{}, 0, time.Duration(0)
	for now < long {
		at := &all[0]
		for k := range all {
			if all[k].end < at.end {
				at = &all[k]
			}
		}
		now = at.end
		if !at.gone {
			used[at.has] += now - at.since
			if !n.Yields(at.has, now-at.since, false) {
				at.since, at.end = now, now+run(at.has)
				continue
			}
			switches++
			if at.gone, at.end = true, now+ends; ends > 0 {
				continue
			}
		}
		n.Leave(at.has)
		next, ok := n.Grant(now)
		if !ok || !n.Admit(now, next, false) {
			t.Fatal("a place that was given up is nobody's")
		}
		n.Return(next)
		n.Admit(now, next, false) // it wants more
		*at = place{next, false, now + starts, now + starts + run(next)}
	}
	both := (used[a] + used[b]).Seconds()
	share, lost := used[a].Seconds()/both, 1-both/(places*long.Seconds())
	if share < 0.48 || share > 0.52 || switches > most*int(long/time.Second) || lost > 0.1 {
		t.Errorf("runs of %v, spread %.2f, ends in %v and starts in %v: the share is %.3f, %.1f places a second change hands, and %.3f of them are lost", runs, spread, ends, starts, share, float64(switches)/long.Seconds(), lost)
	}
}

// TestNodeGivesBack: who had no use for a place has not paid for it.
func TestNodeGivesBack(t *testing.T) {
	n := &scale.Node[*tenant]{MaxInstances: 1}
	a, b, c := newTenant("a", 1, 1024), newTenant("b", 2, 1024), newTenant("c", 3, 1024)
	n.Admit(0, c, false)
	n.Admit(0, b, false)
	n.Yields(a, time.Minute, false) // its runs take that long
	n.Forget(b)
	n.Admit(0, a, false)
	n.Admit(0, b, false)
	n.Leave(c)
	for range 2 {
		if p, ok := n.Grant(0); !ok || p != a {
			t.Fatal("the place is not who is first's")
		}
		n.Return(a)
		n.Admit(0, a, false)
	}
}

// TestNodeYieldsOnce: an instance that serves several at a time gives one place up, and
// what it goes on with until it ends is paid for.
func TestNodeYieldsOnce(t *testing.T) {
	for _, other := range []string{"a", "b"} { // a function of the same project, or another's
		n := &scale.Node[*tenant]{MaxInstances: 1}
		a, b := newTenant("a", 1, 1024), newTenant(other, 2, 1024)
		n.Admit(0, a, false)
		n.Admit(0, b, false)
		n.Admit(0, a, false)
		ends := false
		for range 10 {
			if n.Yields(a, time.Second, ends) {
				if ends {
					t.Fatal("an instance that ends gives its place up again")
				}
				ends = true
			}
		}
		if !ends {
			t.Fatalf("it keeps its place, for which a function of project %s waits", other)
		}
	}
}

// TestWaitsBehindLarge: who would fit has what is free five seconds after it was first kept
// for others, however many are too large for it; and so has one that was passed over before.
func TestWaitsBehindLarge(t *testing.T) {
	n := &scale.Node[*tenant]{MaxInstances: 3, MemoryMB: 1000}
	has, first, second, small := newTenant("a", 0, 700), newTenant("a", 1, 700), newTenant("a", 2, 700), newTenant("a", 3, 100)
	n.Admit(0, has, false)
	for _, p := range []*tenant{first, second, small} {
		n.Admit(0, p, false)
		if got, ok := n.Grant(0); ok {
			t.Fatalf("%s of %d MB has a place at once", got.Pool, got.MemoryMB)
		}
	}
	if got, ok := n.Grant(5 * time.Second); !ok || got != small {
		t.Fatal("who fits has no place after 5 s")
	}
	n.Admit(5*time.Second, small, false)

	large := newTenant("a", 4, 1000)
	n.Admit(6*time.Second, large, false)
	n.Leave(has)
	if _, ok := n.Grant(6 * time.Second); ok {
		t.Fatal("nothing is kept for who is next")
	}
	if got, ok := n.Grant(11 * time.Second); !ok || got != first && got != second {
		t.Fatal("who was passed over, and fits by now, has no place after 5 s")
	}
}

// TestPoolWantsNoMore: the host is told when nobody is in line any more for whom it
// had no place, and is asked again for the next.
func TestPoolWantsNoMore(t *testing.T) {
	p, h := newPool(nil)
	b := warm(t, p, h, 1, 5*ms, 50*ms)[0]
	h.places = 0
	p.Take(time.Second)
	first := wait(t, p, time.Second)
	if p.Leave(first); h.enough != 1 {
		t.Fatalf("told %d times after the only one in line left", h.enough)
	}
	wait(t, p, time.Second)
	if p.Free(2*time.Second, b, 50*ms); h.enough != 2 || h.starts != 0 {
		t.Fatalf("told %d times after the only one in line was served", h.enough)
	}
	h.places = 1
	if wait(t, p, 2*time.Second); h.starts != 1 || h.enough != 2 {
		t.Fatalf("%d starts, told %d times: there is a place again", h.starts, h.enough)
	}
}

// A tenantPool is a pool whose host is a node's tenant.
type tenantPool struct {
	scale.Claim
	host
	n *scale.Node[*tenantPool]
	p *pool
}

func (s *tenantPool) Start(why scale.Cause) bool {
	s.asked++
	if !s.n.Admit(0, s, why.Ahead()) {
		return false
	}
	s.starts++
	return true
}
func (s *tenantPool) Full() bool { return false }
func (s *tenantPool) Enough()    { s.n.Forget(s) }

// TestAheadIsForNobody: a start ahead takes no place for which somebody waits, nor has an idle
// instance end, and is tried again once nobody does.
func TestAheadIsForNobody(t *testing.T) {
	n := &scale.Node[*tenantPool]{MaxInstances: 100, MemoryMB: 5000}
	other := &tenantPool{n: n, Claim: scale.Claim{Project: "a", Pool: "1", MemoryMB: 4000}}
	s := &tenantPool{n: n, Claim: scale.Claim{Project: "b", Pool: "2", MemoryMB: 128}}
	cfg := scale.Default(128)
	cfg.Policy, cfg.FreezeAfter = scale.Fixed(10*time.Minute), 0
	s.p = scale.NewPool[*box, *call](new(scale.Account), cfg, s)
	warm(t, s.p, &s.host, 20, 500*ms, 10*time.Second)
	n.Admit(0, other, false)
	if n.Waiting() != 1 {
		t.Fatal("a place for which there is no room")
	}
	now := time.Minute
	for range 19 {
		s.p.Take(now)
		s.p.Due(now)
		now += 50 * ms
	}
	if s.asked < 21 || s.starts > 0 {
		t.Errorf("of %d starts %d have a place, and somebody waits", s.asked, s.starts)
	}
	if s.p.Stats().Idle != 1 {
		t.Errorf("%+v: an idle one ended", s.p.Stats())
	}
	n.Forget(other)
	if s.p.Due(s.p.Next()); s.starts == 0 {
		t.Error("nothing starts when nobody waits any more")
	}
}

// Whatever happens between Grant and Place, a pool for which nobody waits is off the
// list.
func TestPlaceTakesOffTheList(t *testing.T) {
	n := &scale.Node[*tenantPool]{MaxInstances: 10, MemoryMB: 1024}
	other := &tenantPool{n: n, Claim: scale.Claim{Project: "a", Pool: "1", MemoryMB: 1024}}
	s := &tenantPool{n: n, Claim: scale.Claim{Project: "b", Pool: "2", MemoryMB: 600}}
	s.p = scale.NewPool[*box, *call](new(scale.Account), scale.Default(600), s)
	n.Admit(0, other, false)
	w := wait(t, s.p, 0)
	n.Leave(other)
	if got, ok := n.Grant(0); !ok || got != s {
		t.Fatal("no grant")
	}
	s.p.Leave(w)
	wait(t, s.p, time.Second)
	second := wait(t, s.p, time.Second)
	s.p.Leave(second)
	s.p.Place(time.Second)
	n.Return(s)
	if s.starts != 1 || n.Waiting() != 0 {
		t.Errorf("%d starts, and %d pools wait", s.starts, n.Waiting())
	}
}

// What was seen of the free memory when a pool was next counts no more once it has left
// the list: when it comes back, it has its five seconds again.
func TestHopeIsNewForWhoComesBack(t *testing.T) {
	n := &scale.Node[*tenant]{MaxInstances: 10, MemoryMB: 1024}
	kept, big, small := newTenant("a", 1, 512), newTenant("b", 2, 768), newTenant("c", 3, 128)
	n.Admit(0, kept, false)
	for _, now := range []time.Duration{0, time.Minute} {
		n.Admit(now, big, false)
		n.Admit(now, small, false)
		if p, ok := n.Grant(now); ok {
			t.Fatalf("at %v: %s has a place before who is next", now, p.Pool)
		}
		if at := n.Until(); at != now+5*time.Second {
			t.Errorf("at %v: passed over at %v", now, at)
		}
		n.Forget(big)
		n.Forget(small)
	}
}

// TestPassedOverForLonger: who has no place after having been passed over is so for twice as
// long, and for an hour at the most; and who had one in between for a minute again.
func TestPassedOverForLonger(t *testing.T) {
	n := &scale.Node[*tenant]{MaxInstances: 10, MemoryMB: 1024}
	kept, big, small := newTenant("a", 1, 512), newTenant("b", 2, 768), newTenant("c", 3, 128)
	n.Admit(0, kept, false)
	now := time.Duration(0)
	passed := func() time.Duration {
		n.Grant(now)
		n.Admit(now, small, false)
		if _, ok := n.Grant(now); ok {
			t.Fatal("nothing is kept for who is next")
		}
		now = n.Until()
		if p, ok := n.Grant(now); !ok || p != small {
			t.Fatalf("at %v nobody is passed over", now)
		}
		n.Return(small)
		begun := now
		n.Grant(now)
		now = n.Until()
		return now - begun
	}
	n.Admit(0, big, false)
	for want := time.Minute; want < 128*time.Minute; want *= 2 {
		if got := passed(); got != min(want, time.Hour) {
			t.Fatalf("passed over for %v, want %v", got, want)
		}
	}
	n.Leave(kept)
	if p, ok := n.Grant(now); !ok || p != big {
		t.Fatal("there is room, and it has no place")
	}
	n.Return(big)
	n.Admit(now, kept, false)
	n.Admit(now, big, false)
	if got := passed(); got != time.Minute {
		t.Errorf("after it had a place it is passed over for %v", got)
	}
}

// TestReservedIsThere: what is set aside is there at once for whose it is, whatever others
// have and want, and nothing is promised twice; what is not is there for all.
func TestReservedIsThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := &scale.Node[*tenant]{MaxInstances: rapid.IntRange(1, 8).Draw(t, "instances"), MemoryMB: rapid.SampledFrom([]int{0, 1000, 3000}).Draw(t, "MB")}
		now := time.Duration(0)
		var all []*tenant
		aside, reserved := map[*scale.Reservation]int{}, 0
		for k := range rapid.IntRange(1, 4).Draw(t, "functions") {
			r, mb := new(scale.Reservation), rapid.SampledFrom([]int{100, 700}).Draw(t, "size")
			if places := rapid.IntRange(0, 3).Draw(t, "aside"); n.CanReserve(r, places, mb) {
				n.Reserve(r, places, mb)
				aside[r] = places
				reserved += places
			} else if reserved+places <= n.MaxInstances && n.MemoryMB == 0 {
				t.Fatalf("%d beside %d are more than %d", places, reserved, n.MaxInstances)
			}
			for v := range rapid.IntRange(1, 2).Draw(t, "versions") {
				p := newTenant("a", 10*k+v, mb)
				p.Reserved = r
				all = append(all, p)
			}
		}
		has := func(r *scale.Reservation) (sum int) {
			for _, p := range all {
				if p.Reserved == r {
					sum += p.has
				}
			}
			return sum
		}
		give := func() {
			for p, ok := n.Grant(now); ok; p, ok = n.Grant(now) {
				if n.Admit(now, p, false) {
					p.has++
				}
				p.wants = false
				n.Return(p)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"admit": func(t *rapid.T) {
				p, ahead := rapid.SampledFrom(all).Draw(t, "pool"), rapid.Bool().Draw(t, "ahead")
				switch mine := has(p.Reserved) < aside[p.Reserved]; {
				case n.Admit(now, p, ahead):
					p.has++
				case mine:
					t.Fatalf("%d are set aside, %d there, and one more has no place", aside[p.Reserved], has(p.Reserved))
				case !ahead:
					p.wants = true
					give()
				}
			},
			"leave": func(t *rapid.T) {
				p := rapid.SampledFrom(all).Draw(t, "pool")
				if p.has == 0 {
					return
				}
				if n.Yields(p, time.Second, false) && has(p.Reserved) <= aside[p.Reserved] {
					t.Fatal("a place is given up that is set aside")
				}
				if idle := n.Spares(p, p.has); idle > 0 && n.Pressing() == 0 && has(p.Reserved)-idle < aside[p.Reserved] {
					t.Fatalf("%d of %d may be evicted, and %d are set aside", idle, has(p.Reserved), aside[p.Reserved])
				}
				p.has--
				n.Leave(p)
				give()
			},
			"time": func(t *rapid.T) {
				now += 5 * time.Second
				give()
			},
			"": func(t *rapid.T) {
				instances, mb := 0, 0
				for _, p := range all {
					instances += p.has
					mb += p.has * p.MemoryMB
					if p.wants && has(p.Reserved) < aside[p.Reserved] {
						t.Fatal("one waits for what is set aside for it")
					}
				}
				for r, places := range aside {
					for _, p := range all {
						if p.Reserved == r {
							unused := max(0, places-has(r))
							instances += unused
							mb += unused * p.MemoryMB
							break
						}
					}
				}
				if instances > n.MaxInstances || n.MemoryMB > 0 && mb > n.MemoryMB {
					t.Fatalf("%d instances of %d, %d MB of %d, with what is set aside", instances, n.MaxInstances, mb, n.MemoryMB)
				}
			},
		})
	})
}
