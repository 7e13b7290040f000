package scale_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lambent/scale"
)

const ms = time.Millisecond

type box struct {
	scale.Instance
	name   int
	serves int
	ended  bool
	frozen bool
}

type call struct {
	scale.Waiter
	got     *box
	refused scale.Reason
}

// A host does nothing but remember.
type host struct {
	asked  int // times that it was to start one
	starts int // begun, and not ended
	ahead  int
	ready  int // of those, for the minimum
	places int // that the node has; -1: any number
	enough int // times that nobody waited for one any more
	ended  []*box
	served []*call
	frozen []*box
	full   bool
}

func (h *host) Start(why scale.Cause) bool {
	h.asked++
	if h.places == 0 {
		return false
	}
	h.places--
	h.starts++
	if why.Ahead() {
		h.ahead++
	}
	if why == scale.Minimum {
		h.ready++
	}
	return true
}
func (h *host) Enough()    { h.enough++ }
func (h *host) Full() bool { return h.full }
func (h *host) Serve(c *call, b *box) {
	c.got = b
	b.serves++
	h.served = append(h.served, c)
}
func (h *host) Refuse(c *call, r scale.Refusal) { c.refused = r.Reason }
func (h *host) End(b *box)                      { b.ended = true; h.ended = append(h.ended, b) }
func (h *host) Freeze(b *box)                   { b.frozen = true; h.frozen = append(h.frozen, b) }

type pool = scale.Pool[*box, *call]

func newPool(change func(*scale.Config)) (*pool, *host) {
	h := &host{places: -1}
	cfg := scale.Default(128)
	cfg.Policy, cfg.Forecast = scale.Fixed(10*time.Minute), false
	cfg.FreezeAfter = 0
	if change != nil {
		change(&cfg)
	}
	return scale.NewPool[*box, *call](new(scale.Account), cfg, h), h
}

// wait has a call wait, and fails the test if it is refused.
func wait(t testing.TB, p *pool, now time.Duration) *call {
	t.Helper()
	c := &call{}
	if b, ok := p.Take(now); ok {
		t.Fatalf("instance %d serves at once", b.name)
	}
	if r := p.Wait(now, scale.Never, c); r.Reason != 0 {
		t.Fatalf("refused: %v", r.Reason)
	}
	return c
}

// warm makes a pool with n idle instances, whose starts took cold and whose
// invocations run.
func warm(t testing.TB, p *pool, h *host, n int, cold, run time.Duration) (boxes []*box) {
	t.Helper()
	var calls []*call
	for range n {
		calls = append(calls, wait(t, p, 0))
	}
	p.Due(5 * ms)
	if h.starts != n {
		t.Fatalf("%d calls of a function that is not known start %d instances", n, h.starts)
	}
	for i := range n {
		b := &box{name: i}
		h.starts--
		p.Started(5*ms+cold, b, cold)
		boxes = append(boxes, b)
	}
	for _, c := range calls {
		if c.got == nil {
			t.Fatal("a call was not served")
		}
		p.Free(5*ms+cold+run, c.got, run)
	}
	return boxes
}

func TestIdleInstancesAreAStack(t *testing.T) {
	p, h := newPool(nil)
	b := warm(t, p, h, 3, 5*ms, ms)
	for range 3 {
		got, ok := p.Take(time.Second)
		if !ok || got != b[2] {
			t.Fatalf("got %v, want the last one that was free", got)
		}
		p.Free(time.Second, got, ms)
	}
}

// One that was started ahead comes after those that have served, which are warm, and is
// frozen as they are.
func TestUnusedComesLast(t *testing.T) {
	p, h := newPool(func(c *scale.Config) { c.FreezeAfter = time.Second })
	used := warm(t, p, h, 1, 5*ms, ms)[0]
	p.Due(2 * time.Second)
	unused := &box{}
	p.Begin()
	p.Started(3*time.Second, unused, 5*ms)
	for p.Next() <= 4*time.Second {
		p.Due(4 * time.Second)
	}
	if !used.frozen || !unused.frozen {
		t.Errorf("frozen: the used one %v, the unused one %v", used.frozen, unused.frozen)
	}
	if got, _ := p.Take(5 * time.Second); got != used {
		t.Error("the one that was never used serves first")
	}
	p.Free(5*time.Second, used, ms)
	if got, _ := p.Evict(); got != unused {
		t.Error("the used one is evicted first")
	}
}

func TestFirstInLineGetsWhicheverIsFree(t *testing.T) {
	p, h := newPool(nil)
	warm(t, p, h, 1, 5*ms, 20*ms)
	busy, _ := p.Take(time.Second)
	first, second := wait(t, p, time.Second), wait(t, p, time.Second)
	if h.starts != 2 {
		t.Fatalf("%d start; runs take longer than starts, so 2 should", h.starts)
	}
	p.Free(time.Second+ms, busy, 20*ms)
	if first.got != busy {
		t.Fatal("the first in line did not get the instance that was free first")
	}
	started := &box{name: 9}
	p.Started(time.Second+5*ms, started, 5*ms)
	if second.got != started {
		t.Fatal("the second in line did not get the instance that started")
	}
	third := &box{name: 10}
	p.Started(time.Second+6*ms, third, 6*ms)
	if s := p.Stats(); s.Idle != 1 || s.Busy != 2 || s.Starting != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestStartsOnlyIfThatIsSooner(t *testing.T) {
	for _, c := range []struct {
		cold, run time.Duration
		waiting   int
		starts    int
	}{
		{cold: 100 * ms, run: 10 * ms, waiting: 1, starts: 0},
		{cold: 100 * ms, run: 10 * ms, waiting: 20, starts: 0}, // two serve them, in 10 x 10 ms
		{cold: 100 * ms, run: 10 * ms, waiting: 25, starts: 5},
		{cold: 2 * ms, run: 10 * ms, waiting: 3, starts: 3},
	} {
		p, h := newPool(nil)
		warm(t, p, h, 2, c.cold, c.run)
		p.Take(time.Second)
		p.Take(time.Second)
		for range c.waiting {
			wait(t, p, time.Second)
		}
		if h.starts != c.starts {
			t.Errorf("start %v, run %v, %d in line for 2 instances: %d start, want %d", c.cold, c.run, c.waiting, h.starts, c.starts)
		}
	}
}

// Of a caller who was gone before its run began nothing is learnt: others are not thought to be
// served in no time.
func TestRunsThatNeverBegan(t *testing.T) {
	p, h := newPool(nil)
	b := warm(t, p, h, 1, 5*ms, 100*ms)[0]
	p.Take(time.Second)
	p.Free(time.Second, b, 0)
	p.Take(time.Second)
	if wait(t, p, time.Second); h.starts != 1 {
		t.Fatal("nobody starts for who would wait for 100 ms")
	}
}

// Callers that come while the first instance starts wait for it at first, as its runs may
// take as little as they have at other times, and have others started when that is
// not so.
func TestHesitates(t *testing.T) {
	p, h := newPool(nil)
	first, second := wait(t, p, 0), wait(t, p, ms)
	third := wait(t, p, ms)
	if h.starts != 1 || p.Next() != 5*ms {
		t.Fatalf("%d start for who came within a ms, and it is asked again at %v", h.starts, p.Next())
	}
	b := &box{}
	p.Started(2*ms, b, 2*ms)
	if p.Free(3*ms, first.got, ms); second.got != b {
		t.Fatal("one instance does not serve both")
	}
	if p.Due(4 * ms); h.starts != 2 || third.got != nil { // the start took 2 ms, and the second runs for longer than the first
		t.Fatalf("%d started for who has waited for longer than a start takes", h.starts)
	}

	// Known to be short: they wait for one start, and not for longer than for two.
	p, h = newPool(nil)
	p.Died(warm(t, p, h, 1, 4*ms, ms)[0])
	for range 3 {
		wait(t, p, time.Second)
	}
	if p.Due(time.Second + 7*ms); h.starts != 1 {
		t.Fatalf("%d start for three runs of 1 ms", h.starts)
	}
	if p.Due(time.Second + 8*ms); h.starts != 3 {
		t.Fatalf("%d started once the first had taken twice as long as it should", h.starts)
	}
}

// TestPatienceEnds: where a run takes longer than was to be expected, who waits for
// it has an instance started after the time of a start.
func TestPatienceEnds(t *testing.T) {
	p, h := newPool(nil)
	warm(t, p, h, 1, 100*ms, ms)
	p.Take(time.Second)
	c := wait(t, p, time.Second)
	if h.starts != 0 {
		t.Fatal("it starts one for a wait of 1 ms")
	}
	if next := p.Next(); next != time.Second+100*ms {
		t.Fatalf("it asks to be called at %v", next)
	}
	p.Due(time.Second + 100*ms)
	if h.starts != 1 {
		t.Fatal("nothing starts for who waited for as long as a start takes")
	}
	p.Started(time.Second+200*ms, &box{}, 100*ms)
	if c.got == nil {
		t.Fatal("it was not served")
	}
}

// TestShortRunsArePatient: where many runs fit into a start, and somebody is served all the while,
// who has waited for longer than a start takes waits on, though not for ever.
func TestShortRunsArePatient(t *testing.T) {
	for _, c := range []struct {
		run, takes time.Duration // the shortest, and those in line
		waiting    int
		after      time.Duration // the first start
	}{
		{run: ms, takes: 10 * ms, waiting: 20, after: scale.Never},
		{run: ms, takes: 99 * ms, waiting: 30, after: 16 * 100 * ms},
		{run: 10 * ms, takes: 50 * ms, waiting: 10, after: 100 * ms},
	} {
		p, h := newPool(nil)
		warm(t, p, h, 1, 100*ms, c.run)
		now := time.Second
		b, _ := p.Take(now)
		for range c.waiting {
			wait(t, p, now)
		}
		after := scale.Never
		for ends := now + c.takes; p.Stats().Waiting > 0 && h.starts == 0; p.Due(now) {
			if now = min(ends, p.Next()); now == ends {
				p.Free(now, b, c.takes)
				ends = now + c.takes
			}
		}
		if h.starts > 0 {
			after = now - time.Second
		}
		if after != c.after {
			t.Errorf("%d in line for runs of %v to %v: one starts after %v, want %v", c.waiting, c.run, c.takes, after, c.after)
		}
	}
}

// TestBurstOfStartsIsForgotten: that starts took long while there were many says nothing half
// a second later.
func TestBurstOfStartsIsForgotten(t *testing.T) {
	p, h := newPool(nil)
	b := warm(t, p, h, 1, 5*ms, 50*ms)[0]
	for range 10 {
		slow := &box{}
		p.Begin()
		p.Started(time.Second, slow, time.Second)
		p.Died(slow)
		p.Gone(time.Second, slow)
	}
	p.Take(time.Second)
	w := wait(t, p, time.Second)
	if h.starts != 0 {
		t.Fatal("one starts, which would take longer than the run")
	}
	p.Leave(w)
	p.Free(time.Second+50*ms, b, 50*ms)
	p.Take(1501 * ms)
	if wait(t, p, 1501*ms); h.starts != 1 {
		t.Error("none starts, though that may take 5 ms again")
	}
}

// TestAnsweredIsAsGoodAsFree: nothing is started for a caller that calls again at
// once.
func TestAnsweredIsAsGoodAsFree(t *testing.T) {
	p, h := newPool(nil)
	warm(t, p, h, 1, ms, 100*ms)
	b, _ := p.Take(time.Second)
	p.Answered(b, ms)
	c := wait(t, p, time.Second)
	if h.starts != 0 {
		t.Fatal("it starts one")
	}
	p.Free(time.Second+ms/10, b, 100*ms)
	if c.got != b {
		t.Fatal("it was not served")
	}
	d := wait(t, p, time.Second+ms)
	if h.starts != 1 {
		t.Fatal("it counts on an instance that has not answered")
	}
	first, h2 := newPool(nil)
	a := wait(t, first, 0)
	first.Started(100*ms, &box{}, 100*ms)
	first.Answered(a.got, ms)
	wait(t, first, 101*ms)
	if first.Due(110 * ms); h2.starts > 1 {
		t.Fatal("it starts one beside the first, which has answered")
	}
	if !p.Leave(d) || p.Leave(d) || p.Leave(c) {
		t.Fatal("who leaves was not in line, or is still, or was though it had been served")
	}
}

func TestCrashingInit(t *testing.T) {
	p, _ := newPool(nil)
	a, b := wait(t, p, 0), wait(t, p, 0)
	p.Due(5 * ms)
	if told, ok := p.Failed(10*ms, true); !ok || told != a {
		t.Fatal("the first in line is to be told")
	}
	if b.refused != 0 {
		t.Fatal("the second has a start of its own, which may be better")
	}
	if told, ok := p.Failed(11*ms, true); !ok || told != b {
		t.Fatal("the second in line is to be told of the second failure")
	}
	now := 12 * ms
	r := p.Wait(now, scale.Never, &call{})
	if r.Reason != scale.Crashing || r.RetryAfter != 98*ms {
		t.Fatalf("while starts are held back: %+v", r)
	}
	until := func(at time.Duration) {
		for ; p.Next() <= at; p.Due(now) {
			now = max(now, p.Next())
		}
		now = at
	}
	fails := func(at, want time.Duration) {
		t.Helper()
		until(at)
		wait(t, p, now)
		p.Failed(now, true)
		if r = p.Wait(now, scale.Never, &call{}); r.Reason != scale.Crashing || r.RetryAfter != want {
			t.Fatalf("after one more failure: %+v, want %v", r, want)
		}
	}
	r.RetryAfter = 98 * ms
	for want := 200 * ms; want < 30*time.Second; want *= 2 {
		fails(now+r.RetryAfter, want)
	}
	fails(now+r.RetryAfter, 30*time.Second)
	fails(now+r.RetryAfter+time.Minute-1, 30*time.Second) // the most; and not forgiven yet
	fails(now+r.RetryAfter+time.Minute, 100*ms)           // forgiven, as it has been quiet for twice as long

	until(time.Hour)
	wait(t, p, now)
	p.Failed(now, false)
	c := wait(t, p, time.Hour) // the platform's failure holds nothing back
	p.Started(time.Hour, &box{}, 5*ms)
	if c.got == nil {
		t.Fatal("not served after it has recovered")
	}
	wait(t, p, time.Hour)
	p.Due(time.Hour + 5*ms)
	p.Failed(time.Hour+5*ms, true)
	if r := p.Wait(time.Hour+5*ms, scale.Never, &call{}); r.Reason != 0 {
		t.Fatalf("%+v though an instance is there that can serve", r)
	}
}

// TestFailureIsForWhoHasNoOtherStart: that a start ahead fails is nothing to one in line
// whose own start is under way.
func TestFailureIsForWhoHasNoOtherStart(t *testing.T) {
	p, _ := newPool(nil)
	c := wait(t, p, 0)
	p.Begin()
	if told, ok := p.Failed(ms, false); ok {
		t.Fatalf("%p is told, though another instance starts", told)
	}
	if told, ok := p.Failed(2*ms, false); !ok || told != c {
		t.Fatal("the first in line is to be told of the last failure")
	}
}

// TestCrashesAheadAreFew: after a crash one instance shows whether the code starts again,
// before others are started ahead; and that it takes a while to crash is no pause.
func TestCrashesAheadAreFew(t *testing.T) {
	for _, took := range []time.Duration{0, 2 * time.Second} {
		p, h := newPool(func(c *scale.Config) { c.Min, c.BackOff, c.BackOffMax = 20, time.Second, 10*time.Second })
		now := p.Next()
		for p.Due(now); now < time.Minute; p.Due(now) {
			for ends := now + took; h.starts > 0 && p.Next() <= ends; p.Due(now) {
				now = p.Next()
			}
			for now = now + took; h.starts > 0; h.starts-- {
				p.Failed(now, true)
			}
			now = max(now, p.Next())
		}
		if n := h.ahead - 20; n < 4 || n > 10 {
			t.Errorf("crashing after %v: %d start in a minute after the first 20", took, n)
		}
		for now = max(now, p.Next()); h.starts == 0; now = max(now, p.Next()) {
			p.Due(now)
		}
		for ; h.starts > 0; h.starts-- {
			p.Started(now, &box{}, ms)
		}
		if p.Due(p.Next()); h.starts != 19 {
			t.Errorf("crashing after %v: %d start once one has", took, h.starts)
		}
	}
}

func TestRefusals(t *testing.T) {
	p, h := newPool(func(c *scale.Config) { c.Max, c.Queue, c.QueueWait = 1, 3, 5*time.Second })
	warm(t, p, h, 1, 5*ms, 2*time.Second)
	p.Take(time.Minute)
	if r := p.Wait(time.Minute, time.Minute+time.Second, &call{}); r.Reason != scale.TooLate {
		t.Errorf("a second before its deadline, with 2 to wait: %+v", r)
	}
	wait(t, p, time.Minute)
	wait(t, p, time.Minute)
	if r := p.Wait(time.Minute, scale.Never, &call{}); r.Reason != scale.TooLong || r.RetryAfter != time.Second {
		t.Errorf("a wait of 6 s: %+v", r)
	}
	p, h = newPool(func(c *scale.Config) { c.Max, c.Queue = 1, 1 })
	warm(t, p, h, 1, 5*ms, 2*time.Second)
	p.Take(time.Minute)
	wait(t, p, time.Minute)
	if r := p.Wait(time.Minute, scale.Never, &call{}); r.Reason != scale.QueueFull || r.RetryAfter != 4*time.Second {
		t.Errorf("the second in a line of one: %+v", r)
	}
	p, _ = newPool(func(c *scale.Config) { c.Max = 0 })
	if r := p.Wait(0, scale.Never, &call{}); r.Reason != scale.Stopped {
		t.Errorf("a function that is stopped: %+v", r)
	}
}

func TestDeadlinePassesInLine(t *testing.T) {
	p, h := newPool(func(c *scale.Config) { c.Max = 1 })
	warm(t, p, h, 1, 5*ms, 10*ms)
	b, _ := p.Take(time.Minute)
	late, next := &call{}, &call{}
	p.Wait(time.Minute, time.Minute+time.Second, late)
	p.Wait(time.Minute, scale.Never, next)
	p.Free(time.Minute+time.Second-5*ms, b, time.Second)
	if late.refused != scale.TooLate || next.got != b {
		t.Errorf("refused %v, served %v: no run has been shorter than 10 ms", late.refused, next.got)
	}
}

func TestStartsAreBounded(t *testing.T) {
	p, h := newPool(func(c *scale.Config) { c.Rate, c.Burst, c.Queue, c.QueueWait = 10, 5, 100, 0 })
	for range 20 {
		wait(t, p, 0)
	}
	now := 5 * ms
	p.Due(now)
	if h.starts != 5 {
		t.Fatalf("%d start at once", h.starts)
	}
	for h.starts < 20 {
		if p.Next() <= now {
			t.Fatalf("asks again at %v, at %v", p.Next(), now)
		}
		now = p.Next()
		p.Due(now)
	}
	if now < 1490*ms || now > 1510*ms {
		t.Errorf("the 15 others take %v at 10/s", now)
	}
}

func TestNodeHasNoPlace(t *testing.T) {
	p, h := newPool(nil)
	h.places = 1
	a, b := wait(t, p, 0), wait(t, p, 0)
	p.Due(5 * ms)
	h.places = 5
	wait(t, p, 5*ms)
	if h.starts != 1 {
		t.Fatal("it asks a node that has no place")
	}
	p.Place(5 * ms)
	if h.starts != 3 {
		t.Fatalf("%d start", h.starts)
	}
	_, _ = a, b
}

// Nobody waits for ever for a place that others keep.
func TestNodeNeverHasAPlace(t *testing.T) {
	p, h := newPool(func(c *scale.Config) { c.QueueWait = 5 * time.Second })
	h.places = 0
	first := wait(t, p, 0)
	second := wait(t, p, time.Second)
	for now := p.Next(); now != scale.Never; now = p.Due(now) {
		if early := now < 5*time.Second && first.refused != 0 || now < 6*time.Second && second.refused != 0; early {
			t.Fatalf("refused before %v", now)
		}
		if now > time.Minute {
			t.Fatal("they wait on")
		}
	}
	if first.refused != scale.NoPlace || second.refused != scale.NoPlace {
		t.Errorf("%v and %v", first.refused, second.refused)
	}
	p, h = newPool(func(c *scale.Config) { c.QueueWait = 5 * time.Second })
	third := wait(t, p, 0)
	if p.Due(time.Minute); third.refused != 0 {
		t.Error("refused while its instance starts")
	}
	_ = h
}

func TestConcurrencyFillsTheBusiest(t *testing.T) {
	p, h := newPool(func(c *scale.Config) { c.Concurrency = 3 })
	var calls []*call
	for range 4 {
		calls = append(calls, wait(t, p, 0))
	}
	p.Due(5 * ms)
	if h.starts != 2 {
		t.Fatalf("%d start for 4 calls, 3 to each", h.starts)
	}
	a, b := &box{name: 1}, &box{name: 2}
	p.Started(6*ms, a, ms)
	p.Started(6*ms, b, ms)
	if a.serves != 3 || b.serves != 1 {
		t.Fatalf("they serve %d and %d", a.serves, b.serves)
	}
	p.Free(7*ms, calls[0].got, ms)
	if got, _ := p.Take(8 * ms); got != a {
		t.Fatal("the busiest with room is the first")
	}
	if got, _ := p.Take(8 * ms); got != b {
		t.Fatal("the other has room")
	}
	p.Died(b)
	if _, ok := p.Take(4 * ms); ok {
		t.Fatal("one that ended serves")
	}
	p.Free(5*ms, b, ms)
	p.Free(5*ms, b, ms)
	if len(h.ended) != 1 || h.ended[0] != b {
		t.Fatal("what has ended must be destroyed once nobody uses it")
	}
	p.Gone(5*ms, b)
	for range 3 {
		p.Free(6*ms, a, ms)
	}
	if s := p.Stats(); s != (scale.Stats{Idle: 1}) {
		t.Fatalf("%+v", s)
	}
}

func TestKeepFreezeEnd(t *testing.T) {
	p, h := newPool(func(c *scale.Config) { c.FreezeAfter = time.Second })
	warm(t, p, h, 2, 5*ms, 10*ms)
	p.Due(p.Next())
	if len(h.frozen) != 2 {
		t.Fatalf("%d are frozen after a second", len(h.frozen))
	}
	b, _ := p.Take(time.Minute)
	p.Free(time.Minute, b, ms)
	for now := p.Next(); now != scale.Never; now = p.Due(now) {
		if now > time.Hour {
			t.Fatal("it never ends")
		}
		for _, b := range h.ended {
			if want := 10*time.Minute + 15*ms; b.name == 0 && now < want {
				t.Errorf("ended at %v", now)
			}
		}
	}
	if len(h.ended) != 2 || len(h.frozen) != 3 {
		t.Errorf("%d ended, %d times frozen", len(h.ended), len(h.frozen))
	}
	p.Gone(time.Hour, h.ended[0])
	p.Gone(time.Hour, h.ended[1])
	if !p.Empty() {
		t.Error("not empty")
	}
}

// afterGap wants one instance between two idle times.
type afterGap struct{ from, until time.Duration }

func (afterGap) Used(int, time.Duration, bool) {}
func (a afterGap) Want(_ int, idle time.Duration, _ scale.Cost) (bool, time.Duration) {
	switch {
	case idle < a.from:
		return false, a.from
	case idle < a.until:
		return true, a.until
	}
	return false, scale.Never
}

func TestStartsAhead(t *testing.T) {
	p, h := newPool(func(c *scale.Config) { c.Policy = afterGap{9 * time.Minute, 11 * time.Minute} })
	c := wait(t, p, 0)
	p.Started(100*ms, &box{}, 100*ms)
	p.Free(time.Second, c.got, 900*ms)
	if len(h.ended) != 1 {
		t.Fatal("it is kept")
	}
	p.Gone(time.Second, c.got)
	at := p.Next()
	if at != time.Second+9*time.Minute-100*ms {
		t.Fatalf("it is to be asked at %v", at)
	}
	p.Due(at)
	if h.ahead != 1 {
		t.Fatal("nothing starts ahead")
	}
	b := &box{}
	p.Started(at+50*ms, b, 50*ms) // sooner than expected
	p.Due(at + 60*ms)
	if got, ok := p.Take(10 * time.Minute); !ok || got != b {
		t.Fatal("it is not there when it is wanted")
	}
}

func TestMinimum(t *testing.T) {
	p, h := newPool(func(c *scale.Config) { c.Min = 2 })
	if p.Next() != 0 {
		t.Fatal("it has to be asked at once")
	}
	p.Due(0)
	if h.starts != 2 || h.ready != 2 {
		t.Fatalf("%d start, %d of them as the minimum", h.starts, h.ready)
	}
	a, b := &box{}, &box{}
	p.Started(ms, a, ms)
	p.Started(ms, b, ms)
	p.Due(24 * time.Hour)
	if p.Stats().Idle != 2 {
		t.Fatal("they are not kept")
	}
	p.Died(a)
	p.Gone(24*time.Hour, a)
	p.Due(24 * time.Hour)
	if h.starts != 3 {
		t.Fatal("one that died has no successor")
	}
	if p.Begin(); p.Spare() != 0 {
		t.Fatal("one gives way for those that start, of which none may come to be")
	}
	p.Retire()
	if len(h.ended) != 1 {
		t.Fatal("they outlive a deploy")
	}
	p.Started(24*time.Hour, &box{}, ms)
	if len(h.ended) != 2 {
		t.Fatal("what started for a revision of before is kept")
	}
}

func TestBeginAhead(t *testing.T) {
	p, _ := newPool(func(c *scale.Config) { c.Max = 1 })
	if !p.Begin() || p.Begin() {
		t.Fatal("one may begin, two may not")
	}
	p.Started(time.Hour, &box{}, ms)
	if _, ok := p.Take(time.Hour + time.Minute); !ok {
		t.Fatal("the instance of a trial serves the first call")
	}
}

// crowd makes a pool whose node has two processors, which are full, with so many instances
// that run. Runs take a millisecond, of which they compute for some.
func crowd(t *testing.T, n int, computes time.Duration) (p *pool, h *host, busy []*box) {
	t.Helper()
	p, h = newPool(func(c *scale.Config) { c.Processors = 2 })
	warm(t, p, h, n, 5*ms, ms)
	h.full = true
	for range n {
		h.full = false
		b, _ := p.Take(time.Second)
		h.full = true
		p.Answered(b, computes)
		p.Free(time.Second, b, ms)
		h.full = false
		b, _ = p.Take(time.Second)
		h.full = true
		busy = append(busy, b)
	}
	return p, h, busy
}

// TestCrowdWaits: where processors are full, and as many instances run as there are of
// them, others would only take time from these. Who comes waits for one of them.
func TestCrowdWaits(t *testing.T) {
	p, h, busy := crowd(t, 3, ms/2)
	p.Free(time.Second, busy[2], ms)
	c := wait(t, p, time.Second) // though one is idle
	if p.Free(time.Second+ms, busy[0], ms); c.got != busy[0] || h.starts != 0 {
		t.Fatal("who is free first does not serve")
	}

	late := wait(t, p, time.Second+ms)
	for now := time.Second + 2*ms; now < time.Second+51*ms; now += ms {
		if p.Due(now); late.got != nil {
			t.Fatalf("the idle one serves at %v", now)
		}
	}
	if p.Due(time.Second + 51*ms); late.got != busy[2] || h.starts != 0 {
		t.Fatal("50 ms after anybody was free the idle one does not serve")
	}
}

// TestCrowdShrinks: those that are too many for the processors are let rest, one after the other.
func TestCrowdShrinks(t *testing.T) {
	p, h, busy := crowd(t, 5, ms/2)
	var calls []*call
	for range 10 {
		calls = append(calls, wait(t, p, time.Second))
	}
	for i, b := range busy {
		p.Free(time.Second+ms, b, ms)
		if got := calls[0].got != nil; got != (i >= 3) {
			t.Fatalf("when %d of 5 were free, somebody in line is served: %v", i+1, got)
		}
	}
	if s := p.Stats(); s.Idle != 3 || s.Busy != 2 || h.starts != 0 {
		t.Fatalf("%+v, %d start", s, h.starts)
	}
	h.full = false
	if last := wait(t, p, time.Second+ms); p.Stats().Idle != 0 || calls[4].got == nil || last.got != nil {
		t.Fatal("idle ones do not serve those in line, first come first served, though processors are idle")
	}
}

// TestIdleSoon: nobody waits in a crowd for longer because another instance would take long to
// start, or because one starts.
func TestIdleSoon(t *testing.T) {
	for _, starting := range []bool{false, true} {
		p, h := newPool(func(c *scale.Config) { c.Processors = 2 })
		warm(t, p, h, 4, 3*time.Second, ms)
		now := 10 * time.Second
		var busy []*box
		for range 3 {
			b, _ := p.Take(now)
			p.Answered(b, ms)
			p.Free(now, b, ms)
		}
		for range 3 {
			b, _ := p.Take(now)
			busy = append(busy, b)
		}
		h.full = true
		if starting {
			p.Begin()
		}
		p.Free(now, busy[2], ms)
		c := wait(t, p, now)
		for c.got == nil && now < 20*time.Second {
			now = max(now+1, p.Next())
			p.Due(now)
		}
		if now > 10*time.Second+51*ms {
			t.Errorf("one waits for %v beside one that is idle; another starts: %v", now-10*time.Second, starting)
		}
	}
}

// TestLastingAreNoCrowd: it is not waited for those that run for long.
func TestLastingAreNoCrowd(t *testing.T) {
	p, h, busy := crowd(t, 3, ms/2)
	p.Free(time.Second, busy[2], ms)
	first := wait(t, p, time.Second)
	now := time.Second + 50*ms
	if p.Due(now); first.got == nil {
		t.Fatal("one still waits after 50 ms")
	}
	for range 10 {
		p.Free(now+ms, busy[2], ms)
		now += 10 * ms
		if _, ok := p.Take(now); !ok {
			t.Fatal("one waits for those of whom it is known that they take long")
		}
	}
	p.Free(now+ms, busy[0], now+ms-time.Second)
	p.Free(now+ms, busy[1], now+ms-time.Second)
	p.Free(now+ms, busy[2], ms)
	if now += 2 * ms; h.starts != 0 {
		t.Fatal("it starts one")
	}
	h.full = false
	for range 2 {
		p.Take(now)
	}
	h.full = true
	wait(t, p, now) // for others, who may take short
}

// TestLastingEnd: of two that run for long one ends, and is no reason any more to count one less.
func TestLastingEnd(t *testing.T) {
	p, _, busy := crowd(t, 4, ms/2)
	p.Free(time.Second, busy[2], ms)
	p.Free(time.Second, busy[3], ms)
	now := time.Second + 50*ms
	p.Take(now)
	p.Free(now, busy[0], 50*ms)
	if _, ok := p.Take(now); !ok {
		t.Fatal("one waits though one processor's worth runs short")
	}
	if _, ok := p.Take(now); ok {
		t.Error("one serves beside as many short ones as there are processors")
	}
}

// TestIdleForWhoWouldBeRefused: nobody is refused for the wait in a crowd while an instance is idle,
// nor told that another one could not be made.
func TestIdleForWhoWouldBeRefused(t *testing.T) {
	p, h, busy := crowd(t, 5, ms/2)
	cfg := scale.Default(128)
	cfg.Policy, cfg.Forecast, cfg.Processors, cfg.Queue, cfg.Max, cfg.FreezeAfter, cfg.QueueWait = scale.Fixed(time.Minute), false, 2, 3, 5, 0, ms/2
	p.Set(cfg)
	for _, b := range busy[2:] {
		p.Free(time.Second, b, ms)
	}
	var calls []*call
	for range 2 {
		calls = append(calls, wait(t, p, time.Second))
	}
	calls = append(calls, &call{}) // which is one too many to wait
	if r := p.Wait(time.Second, scale.Never, calls[2]); r.Reason != 0 || calls[0].got == nil || calls[1].got != nil {
		t.Fatalf("%v: the line is full, and one is idle", r.Reason)
	}
	p.Leave(calls[1])
	p.Leave(calls[2])
	soon := &call{}
	if r := p.Wait(time.Second, time.Second+40*ms, soon); r.Reason != 0 || soon.got == nil {
		t.Errorf("%v: the deadline is near, and one is idle", r.Reason)
	}
	c := wait(t, p, time.Second)
	cfg.Max = 10
	p.Set(cfg)
	p.Begin()
	if _, ok := p.Failed(time.Second, false); ok || h.starts != 0 {
		t.Error("a start ahead fails, and one in line is told, though an instance is idle")
	}
	if p.Due(time.Second + 50*ms); c.got == nil {
		t.Error("it is not served")
	}
}

// TestNoCrowdUnknown: of runs of which no processor time is known nobody says that they compute.
func TestNoCrowdUnknown(t *testing.T) {
	p, h := newPool(func(c *scale.Config) { c.Processors = 2 })
	for range 3 {
		p.Begin()
		p.Started(ms, &box{}, ms)
	}
	h.full = true
	for range 3 {
		if _, ok := p.Take(2 * ms); !ok {
			t.Fatal("one waits though one is idle")
		}
	}
}

// TestNoCrowd: who is free serves at once where processors are idle, where fewer run than there are
// processors, and where the runs mostly wait for something else.
func TestNoCrowd(t *testing.T) {
	serves := func(p *pool, free *box, why string) {
		t.Helper()
		p.Free(time.Second, free, ms)
		if _, ok := p.Take(time.Second); !ok {
			t.Errorf("nobody serves where %s", why)
		}
	}
	p, h, busy := crowd(t, 3, ms/2)
	h.full = false
	serves(p, busy[0], "processors are idle")
	p, _, busy = crowd(t, 2, ms/2)
	serves(p, busy[0], "one runs")
	p, _, busy = crowd(t, 3, ms/5)
	serves(p, busy[0], "runs wait for something else")
}

// TestPoolKeepsItsWord makes events up, and holds the pool to what the package
// guarantees.
func TestPoolKeepsItsWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		concurrency := rapid.IntRange(1, 10).Draw(t, "concurrency")
		most := rapid.IntRange(1, 5).Draw(t, "max")
		policies := []scale.Policy{scale.None{}, scale.Fixed(time.Second), scale.NewThrift(100), scale.NewHistogram(), afterGap{time.Second, time.Minute}}
		policy := rapid.SampledFrom(policies).Draw(t, "policy")
		p, h := newPool(func(c *scale.Config) {
			c.Policy, c.Concurrency, c.Max, c.Queue, c.FreezeAfter = policy, concurrency, most, 10, time.Second
			c.Min = rapid.IntRange(0, 1).Draw(t, "min")
			c.Forecast = rapid.Bool().Draw(t, "forecast")
			c.Rate, c.Burst, c.Processors = 10, 3, 2
		})
		crowded := false // processors were full since that was last looked at
		now := time.Duration(0)
		var all, busy []*box // busy has one for each invocation
		var waiting []*call
		gone := 0
		settle := func() {
			for _, b := range h.ended[gone:] {
				if b.serves > 0 {
					t.Fatal("an instance was ended that serves")
				}
				p.Gone(now, b)
			}
			gone = len(h.ended)
			for _, c := range waiting {
				if c.got != nil && c.refused != 0 {
					t.Fatal("served and refused")
				}
				if c.got != nil {
					busy = append(busy, c.got)
				}
			}
			waiting = slices.DeleteFunc(waiting, func(c *call) bool { return c.got != nil || c.refused != 0 })
		}
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "which") }
		for range rapid.IntRange(1, 100).Draw(t, "events") {
			now += time.Duration(rapid.SampledFrom([]int{0, 1, 10, 1000, 100_000}).Draw(t, "ms")) * ms
			for p.Next() <= now {
				if next := p.Due(now); next <= now {
					t.Fatalf("asks for %v at %v", next, now)
				}
				settle()
			}
			h.full = rapid.Bool().Draw(t, "full")
			crowded = crowded || h.full
			switch rapid.IntRange(0, 9).Draw(t, "event") {
			case 0, 1, 2, 3:
				if b, ok := p.Take(now); ok {
					if b.ended || b.serves >= concurrency {
						t.Fatal("an instance was given that cannot serve")
					}
					b.serves++
					busy = append(busy, b)
				} else if c := (&call{}); p.Wait(now, now+time.Duration(rapid.IntRange(1, 100_000).Draw(t, "deadline"))*ms, c).Reason == 0 {
					waiting = append(waiting, c)
				}
			case 4, 5:
				if len(busy) > 0 {
					i := pick(len(busy))
					b := busy[i]
					busy = slices.Delete(busy, i, i+1)
					b.serves--
					p.Answered(b, ms)
					p.Free(now, b, ms)
				}
			case 6:
				if h.starts > 0 {
					h.starts--
					b := &box{}
					all = append(all, b)
					p.Started(now, b, 5*ms)
				}
			case 7:
				if h.starts > 0 {
					h.starts--
					if c, ok := p.Failed(now, true); ok {
						c.refused = scale.Crashing
					}
				}
			case 8:
				if len(waiting) > 0 {
					c := waiting[pick(len(waiting))]
					if !p.Leave(c) {
						t.Fatal("who waits is not in line")
					}
					c.refused = scale.Closed
				}
			case 9:
				if len(all) > 0 {
					if b := all[pick(len(all))]; !b.ended && p.Died(b) {
						p.Gone(now, b)
						b.ended = true
					}
				}
			}
			settle()
			s := p.Stats()
			if s.Waiting != len(waiting) || s.Running != len(busy) || s.Starting != h.starts || s.Ending != 0 {
				t.Fatalf("%+v, with %d waiting, %d running, %d starting", s, len(waiting), len(busy), h.starts)
			}
			if s.Idle > 0 && s.Waiting > 0 && (!crowded || s.Running < 2 || p.Next() > now+50*ms) {
				t.Fatal("one waits though one is idle")
			}
			if s.Idle+s.Busy+s.Starting > most {
				t.Fatalf("%+v are more than %d", s, most)
			}
			used := map[*box]bool{}
			for _, b := range busy {
				used[b] = true
			}
			if len(used) != s.Busy {
				t.Fatalf("%+v, but %d are used", s, len(used))
			}
		}
		p.Close()
		settle()
		if len(waiting) > 0 || p.Stats().Idle > 0 {
			t.Fatal("Close leaves somebody waiting, or idle")
		}
	})
}

func TestWarmPathAllocatesNothing(t *testing.T) {
	for _, policy := range []scale.Policy{scale.Fixed(time.Minute), scale.NewThrift(scale.DefaultRate), scale.NewHistogram()} {
		p, h := newPool(func(c *scale.Config) { c.Policy, c.Forecast, c.FreezeAfter = policy, true, time.Second })
		warm(t, p, h, 1, 5*ms, ms)
		now := time.Second
		if n := testing.AllocsPerRun(1000, func() {
			now += 10 * ms
			b, _ := p.Take(now)
			p.Free(now+ms, b, ms)
		}); n > 0 {
			t.Errorf("%T: %v allocations", policy, n)
		}
	}
}

func BenchmarkWarm(b *testing.B) {
	for _, policy := range []scale.Policy{scale.Fixed(time.Minute), scale.NewThrift(scale.DefaultRate)} {
		b.Run(fmt.Sprintf("%T", policy), func(b *testing.B) {
			p, h := newPool(func(c *scale.Config) {
				c.Policy, c.FreezeAfter = policy, time.Second
				_, c.Forecast = policy.(*scale.Thrift)
			})
			warm(b, p, h, 1, 5*ms, ms)
			now := time.Second
			b.ReportAllocs()
			for b.Loop() {
				now += 10 * ms
				i, _ := p.Take(now)
				p.Answered(i, ms/10)
				p.Free(now+ms, i, ms)
				p.Next()
			}
		})
	}
}

// Who is in line when more may be had is not kept waiting for the next event.
func TestRaisedMaximumStarts(t *testing.T) {
	p, h := newPool(nil)
	h.places = 0
	wait(t, p, 0)
	cfg := scale.Default(128)
	cfg.Max = 0
	p.Set(cfg)
	h.places = 5
	p.Place(time.Second)
	cfg.Max = 10
	p.Set(cfg)
	if p.Due(p.Next()); h.starts != 1 {
		t.Errorf("%d start for who is in line", h.starts)
	}
}

// That a function's start takes longer than anybody may wait is no reason to refuse it
// the first one.
func TestLongStartIsNotRefused(t *testing.T) {
	p, h := newPool(func(c *scale.Config) { c.Policy = scale.None{} })
	warm(t, p, h, 1, 40*time.Second, ms)
	if r := p.Wait(50*time.Second, scale.Never, &call{}); r.Reason != 0 {
		t.Errorf("refused: %v", r.Reason)
	}
}

// A pool that has just lost its last instance counts from then on that there is none.
func TestGivesUpFromWhenThereIsNone(t *testing.T) {
	p, h := newPool(func(c *scale.Config) { c.Max, c.QueueWait = 1, 5*time.Second })
	b := warm(t, p, h, 1, ms, ms)[0]
	p.Take(time.Second)
	w := wait(t, p, time.Second)
	h.places = 0
	p.Died(b)
	p.Free(20*time.Second, b, 19*time.Second)
	p.Gone(20*time.Second, b)
	for now := p.Next(); now < 25*time.Second; now = p.Due(now) {
		if w.refused != 0 {
			t.Fatalf("refused before %v", now)
		}
	}
	if p.Due(25 * time.Second); w.refused != scale.NoPlace {
		t.Errorf("after 5 s without an instance: %v", w.refused)
	}
}
