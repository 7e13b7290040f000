package scale

import (
	"slices"
	"time"
)

type instance interface{ pooled() *Instance }
type waiter interface{ waiting() *Waiter }

// A Pool has the instances of one revision, and the invocations that wait for
// one. I is the host's instance, which embeds [Instance], and W its waiting
// invocation, which embeds [Waiter]; both are pointers.
//
// Every event is a call, and what is to be done about it comes back as calls of
// the [Host]. After each call [Pool.Next] says when the pool wants to be asked
// again, with [Pool.Due].
//
// Instances are counted by levels: the pool is on level n while n instances are
// busy, or start for somebody. An arrival that finds m instances busy needs the
// one of level m+1, whichever that is. The idle ones are a stack, so that the
// last is the one of the next level and the first that of the highest: what a
// [Policy] learns and says is of levels, and holds whether or not there was an
// instance.
type Pool[I instance, W waiter] struct {
	cfg     Config
	account *Account
	host    Host[I, W]

	idle []I // a stack: the last one is the hottest
	open []I // busy, with room for another invocation
	line line[W]

	live     int // instances that are idle, busy or starting
	starting int
	demanded int // of those that start: for somebody, not ahead
	level    int // instances that are busy, or start for somebody
	busy     int
	running  int // invocations that instances serve
	settling int // of those: answered, and about to be done
	lasting  int // of those: that were known to last when one began or ended, as for a crush none had
	ending   int

	fell      []time.Duration // by level - 1: when it was last left; -1: never
	run       average         // time that an invocation takes
	computes  average         // of that, processor time
	pace      pace
	best      pace // of many more runs
	forecast  forecast
	freed     time.Duration // when an invocation was last done with
	cold      average       // time from a start to its end, init and all
	starts    pace          // the same
	startedAt time.Duration // when the last one ended
	crashes   int           // in a row
	backOff   time.Duration // no start until then
	forgive   time.Duration // if none has crashed until then, the crashes are forgotten
	starved   bool          // the node has no place
	spurned   time.Duration // until then a forecast does not have another start ahead tried, as one was in vain
	bare      bool          // there is no instance that may be used, and none starts
	bareAt    time.Duration // since when
	retired   bool
	closed    bool
	due       time.Duration
	standing  Standing
}

// NewPool returns an empty pool of an account.
func NewPool[I instance, W waiter](a *Account, cfg Config, host Host[I, W]) *Pool[I, W] {
	p := &Pool[I, W]{account: a, host: host, due: Never}
	a.pools = append(a.pools, p)
	p.Set(cfg)
	return p
}

// Quit takes a pool out of its account that is empty, and not used any more.
func (p *Pool[I, W]) Quit() {
	p.account.pools = slices.DeleteFunc(p.account.pools, func(q member) bool { return q == member(p) })
}

// Set takes another configuration over. What follows from it is done when the
// pool is next asked, which it wants to be at once.
func (p *Pool[I, W]) Set(cfg Config) {
	if cfg.Policy == nil {
		cfg.Policy = None{}
	}
	cfg.Concurrency = max(cfg.Concurrency, 1)
	p.cfg, p.account.Bounds = cfg, cfg.Bounds
	if !cfg.Forecast {
		p.forecast = forecast{}
	}
	p.standing.GB = float64(cfg.MemoryMB) / 1024
	if cfg.Min > 0 || p.live > 0 || p.line.n > 0 {
		p.due = 0
	}
}

// Take returns an instance for an invocation that has just arrived, if one is to
// serve it at once. If not, the invocation may [Pool.Wait].
//
// An instance that is busy and has room comes before an idle one, and of those
// the busiest: then the others become idle, and end. Spreading invocations over
// the least loaded keeps each instance in use now and then, and so all of them.
func (p *Pool[I, W]) Take(now time.Duration) (i I, ok bool) {
	switch {
	case p.line.n > 0 || !p.account.runs():
		return i, false
	case len(p.open) > 0:
		i = p.busiest()
	case p.ready() && !p.crowded(now):
		i = p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		p.rise(now, p.inTime(now, p.level+1))
	default:
		return i, false
	}
	p.assign(now, i)
	p.foresee(now)
	return i, true
}

func (p *Pool[I, W]) busiest() I {
	best := p.open[0]
	for _, i := range p.open[1:] {
		if i.pooled().serves > best.pooled().serves {
			best = i
		}
	}
	return best
}

// assign makes one more invocation an instance's. The instance is on no list if
// it was not busy.
func (p *Pool[I, W]) assign(now time.Duration, i I) {
	s := i.pooled()
	if s.state != busy {
		s.state, s.frozen = busy, false
		p.busy++
	}
	s.serves++
	p.lasting = p.last(now)
	p.running++
	p.standing.Uses++
	p.standing.Last = now
	p.list(i)
}

// list keeps a busy instance among the open ones while it has room.
func (p *Pool[I, W]) list(i I) {
	s := i.pooled()
	open := s.state == busy && !s.dead && s.serves > 0 && s.serves < p.cfg.Concurrency
	switch n := len(p.open); {
	case open && s.open == 0:
		p.open = append(p.open, i)
		s.open = n + 1
	case !open && s.open > 0:
		last := p.open[n-1]
		p.open[s.open-1] = last
		last.pooled().open, s.open = s.open, 0
		p.open = p.open[:n-1]
	}
}

// Wait puts an invocation in line, and starts an instance for it if that is
// likely to be sooner than one that is busy. It is refused where it would wait
// for too long, without a trace. The deadline is when its caller has no more use
// for an answer, or Never.
func (p *Pool[I, W]) Wait(now, deadline time.Duration, w W) Refusal {
	expected := p.expect(now, p.line.n+1)
	no := func(r Reason, after time.Duration) Refusal {
		return Refusal{r, max(after, time.Millisecond)}
	}
	switch {
	case p.closed:
		return no(Closed, time.Second)
	case p.account.Max == 0:
		return no(Stopped, time.Minute)
	case p.hopeless(now):
		return no(Crashing, p.backOff-now)
	case p.account.Waiting() >= p.account.Queue:
		return no(QueueFull, expected)
	case p.cfg.QueueWait > 0 && expected > p.cfg.QueueWait && p.running > 0: // of a start alone nobody is to blame
		return no(TooLong, expected-p.cfg.QueueWait)
	case deadline-now <= expected:
		return no(TooLate, expected)
	}
	s := w.waiting()
	s.since, s.deadline = now, deadline
	p.line.push(w)
	p.provide(now)
	p.foresee(now)
	return Refusal{}
}

// Leave takes an invocation out of the line whose caller gave up. It returns
// false where that was served or refused already.
func (p *Pool[I, W]) Leave(w W) bool {
	left := p.line.remove(w)
	p.sated()
	return left
}

// sated tells the host if nobody is in line any more for whom it had no place.
func (p *Pool[I, W]) sated() {
	if p.starved && p.line.n == 0 {
		p.starved = false
		p.host.Enough()
	}
}

// Started tells of an instance that can serve, made in so much time since its
// start was asked for. It gets the first in line, or is idle.
func (p *Pool[I, W]) Started(now time.Duration, i I, took time.Duration) {
	p.cold.add(took)
	p.starts.add(took, paceWindow)
	p.startedAt = now
	p.standing.Cold = time.Duration(p.cold)
	if p.crashes > 0 {
		p.by(now) // for others ahead
	}
	p.crashes, p.backOff, p.spurned = 0, 0, 0
	p.starting--
	demanded := p.demanded > 0
	if demanded {
		p.demanded--
	}
	*i.pooled() = Instance{}
	served := p.serve(now, i)
	switch {
	case served && !demanded:
		p.rise(now, false)
	case !served && demanded: // another was sooner
		p.fall(now)
	case !served: // ahead: as if it had been used now, if there is nothing to go by
		p.see(p.live)
		if p.fell[p.live-1] < 0 {
			p.fell[p.live-1] = now
		}
	}
	if !served && p.rest(now, i) { // nothing of it is warm yet: those that were used come first
		p.idle = slices.Insert(p.idle[:len(p.idle)-1], 0, i)
	}
	p.account.offer(now, retryAhead, nil)
}

// Failed tells of a start that ended without an instance. If the code is to
// blame it is broken, and starts are held back for a while. The first in line is
// to be told, unless another instance starts for it, or is ready; those that nothing could
// serve are refused.
func (p *Pool[I, W]) Failed(now time.Duration, broken bool) (w W, ok bool) {
	p.unstart()
	p.spurned = now + retryAhead
	if broken && p.cfg.BackOff > 0 && now >= p.backOff { // others of the same while count as one
		pause := min(p.cfg.BackOff<<min(p.crashes, 20), max(p.cfg.BackOffMax, p.cfg.BackOff))
		p.backOff = now + pause
		p.forgive = p.backOff + 2*pause
		p.crashes++
		p.by(p.forgive)
	}
	if !p.content() && !p.ready() {
		w, ok = p.line.pop(), true
	}
	p.account.offer(now, retryAhead, nil)
	return w, ok
}

// Canceled tells of a start that ended without an instance for a reason that is
// nobody else's.
func (p *Pool[I, W]) Canceled(now time.Duration) {
	p.unstart()
	p.account.offer(now, retryAhead, nil)
}

func (p *Pool[I, W]) unstart() {
	p.starting--
	p.live--
	if p.demanded > 0 {
		p.demanded--
		p.level-- // and nothing is learnt of it
	}
}

// Begin counts a start that the host makes on its own account, ahead of any
// invocation. It returns false where the pool has as many as it may. One of another pool
// is no reason: it is beside these, until they leave it room, and nobody gets it before.
func (p *Pool[I, W]) Begin() bool {
	if p.live+p.ending >= p.account.Max || p.closed {
		return false
	}
	p.live++
	p.starting++
	return true
}

// Answered tells that an instance has answered an invocation, for which it computed
// for so long, if that is known, and is about to be free of it.
func (p *Pool[I, W]) Answered(i I, computed time.Duration) {
	if computed > 0 {
		p.computes.add(computed)
	}
	if s := i.pooled(); s.state == busy {
		s.settling++
		p.settling++
	}
}

// Free tells that an instance has done with an invocation, after so much time; 0: it never
// began. It gets the first in line, is idle, or is ended.
func (p *Pool[I, W]) Free(now time.Duration, i I, ran time.Duration) {
	s := i.pooled()
	if s.state != busy {
		return
	}
	if ran > 0 {
		p.run.add(ran)
		p.pace.add(ran, paceWindow)
		p.best.add(ran, longWindow)
	}
	p.lasting = p.last(now)
	p.freed = now
	if s.serves--; s.settling > 0 {
		s.settling--
		p.settling--
	}
	p.running--
	if ran >= crush {
		p.lasting--
	}
	p.lasting = max(0, min(p.lasting, p.running))
	if !s.dead && p.line.n > 0 && !p.account.behind(p) && (s.serves > 0 || !p.held(now)) && p.serve(now, i) {
		return
	}
	p.list(i)
	if s.serves == 0 {
		p.busy--
		p.fall(now)
		if s.dead {
			p.end(i)
		} else {
			p.rest(now, i)
		}
	}
	p.use(now)
	p.account.offer(now, retryAhead, p)
}

// serve gives an instance as many of those in line as it has room for, and
// reports whether any.
func (p *Pool[I, W]) serve(now time.Duration, i I) (any bool) {
	if i.pooled().state != busy && p.account.used() >= p.account.Max {
		return false
	}
	for i.pooled().serves < p.cfg.Concurrency && p.line.n > 0 && p.account.runs() {
		w := p.line.pop()
		if d := w.waiting().deadline; d != Never && now+p.pace.shortest() >= d {
			p.host.Refuse(w, Refusal{TooLate, time.Millisecond})
			continue
		}
		p.assign(now, i)
		p.host.Serve(w, i)
		any = true
	}
	p.sated()
	return any
}

// rest puts an instance on the stack, and returns true, or ends it.
func (p *Pool[I, W]) rest(now time.Duration, i I) bool {
	want, until := p.want(p.live, now)
	if !want {
		if until != Never {
			p.by(until)
		}
		p.end(i)
		return false
	}
	s := i.pooled()
	s.state, s.idleSince, s.frozen = idle, now, false
	p.idle = append(p.idle, i)
	p.by(until)
	if p.cfg.FreezeAfter > 0 {
		p.by(now + p.cfg.FreezeAfter)
	}
	return true
}

// end has an instance destroyed that is on no list.
func (p *Pool[I, W]) end(i I) {
	p.drop(i)
	p.host.End(i)
}

func (p *Pool[I, W]) drop(i I) {
	i.pooled().state = ending
	p.live--
	p.ending++
}

// Died tells that an instance ended by itself. It returns true where nobody uses
// it, and the host must destroy it; else that is when it is free.
func (p *Pool[I, W]) Died(i I) bool {
	s := i.pooled()
	s.dead = true
	if s.state != idle {
		p.list(i)
		return false
	}
	at := slices.IndexFunc(p.idle, func(j I) bool { return j.pooled() == s })
	p.idle = slices.Delete(p.idle, at, at+1)
	p.drop(i)
	return true
}

// Gone tells that an instance is destroyed: once for each that was started,
// whoever ended it and in whatever state. Its place may be another's.
func (p *Pool[I, W]) Gone(now time.Duration, i I) {
	s := i.pooled()
	switch s.state {
	case idle:
		p.Died(i)
	case busy:
		p.running -= s.serves
		p.lasting = min(p.lasting, p.running)
		p.settling -= s.settling
		s.serves, s.settling = 0, 0
		p.list(i)
		p.busy--
		p.fall(now)
		p.drop(i)
	}
	p.ending--
	p.account.offer(now, 0, nil)
}

// seek implements member.
func (p *Pool[I, W]) seek(now, again time.Duration) {
	p.provide(now)
	switch {
	case p.retired || p.live >= min(p.cfg.Min, p.account.Max):
	case now < p.backOff:
		p.by(p.backOff)
	default:
		p.by(now + again)
	}
}

// waits implements member.
func (p *Pool[I, W]) waits() time.Duration {
	if p.line.n == 0 {
		return Never
	}
	return p.line.first().waiting().since
}

// rests implements member.
func (p *Pool[I, W]) rests() time.Duration {
	if len(p.idle) == 0 {
		return Never
	}
	return p.idle[0].pooled().idleSince
}

// endIdle implements member.
func (p *Pool[I, W]) endIdle() {
	if i, ok := p.Evict(); ok {
		p.host.End(i)
	}
}

// Evict returns the instance that has not been used for longest, or ever, which the host must
// destroy: the memory is another's.
func (p *Pool[I, W]) Evict() (i I, ok bool) {
	if len(p.idle) == 0 {
		return i, false
	}
	i = p.idle[0]
	p.idle = slices.Delete(p.idle, 0, 1)
	p.drop(i)
	return i, true
}

// Spare is how many idle instances Evict may be called for: those that the minimum
// does not need.
func (p *Pool[I, W]) Spare() int {
	least := p.cfg.Min
	if p.retired {
		least = 0
	}
	return max(0, min(len(p.idle), p.live-p.starting-least))
}

// Place tells that the node may have a place for an instance, after Start said
// that it has none.
func (p *Pool[I, W]) Place(now time.Duration) {
	p.starved = false
	if p.provide(now); !p.starved {
		p.host.Enough()
	}
}

// Retire ends the idle instances now and the busy ones when they are done:
// nothing leads here any more. What is in line is served.
func (p *Pool[I, W]) Retire() {
	p.retired = true
	for len(p.idle) > 0 {
		p.endIdle()
	}
}

// Revive takes back a retirement.
func (p *Pool[I, W]) Revive() { p.retired = p.closed }

// Close retires the pool and refuses whoever is in line.
func (p *Pool[I, W]) Close() {
	p.closed = true
	p.Retire()
	for p.line.n > 0 {
		p.host.Refuse(p.line.pop(), Refusal{Closed, time.Second})
	}
	p.sated()
}

// Empty reports whether the pool has neither instances nor waiting invocations.
func (p *Pool[I, W]) Empty() bool { return p.live == 0 && p.ending == 0 && p.line.n == 0 }

// Stats counts instances and invocations.
func (p *Pool[I, W]) Stats() Stats {
	return Stats{Idle: len(p.idle), Busy: p.busy, Starting: p.starting, Ending: p.ending, Waiting: p.line.n, Running: p.running}
}

// Standing is what [GreedyDual] goes by. It is the pool's own: only while the
// pool is not called may it be looked at.
func (p *Pool[I, W]) Standing() *Standing { return &p.standing }
