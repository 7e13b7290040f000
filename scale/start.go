package scale

import "time"

// provide has idle instances serve those in line, starts others for those that would
// else wait for longer than a start takes, and refuses those that nothing will ever serve.
func (p *Pool[I, W]) provide(now time.Duration) {
	p.use(now)
	for p.line.n > 0 && p.short(now) && p.start(now, Demand) {
		p.demanded++
		p.rise(now, false)
	}
	for p.line.n > 0 && p.account.instances() >= p.account.Max && p.shortWith(now, p.starting+p.account.coming()) && p.allowed(now) && p.account.evict(p) {
	}
	if p.hopeless(now) {
		for p.line.n > 0 {
			p.host.Refuse(p.line.pop(), Refusal{Crashing, p.backOff - now})
		}
	}
	switch {
	case p.running > 0 || p.starting > 0 || p.ready():
		p.bare = false
	case !p.bare:
		p.bare, p.bareAt = true, now
	}
	if p.bare && p.cfg.QueueWait > 0 {
		p.giveUp(now)
	}
	p.sated()
}

// use has instances with room serve those in line, and idle ones those who are not held any more.
func (p *Pool[I, W]) use(now time.Duration) {
	for p.line.n > 0 && len(p.open) > 0 && !p.account.behind(p) && p.serve(now, p.busiest()) {
	}
	for p.line.n > 0 && p.ready() && !p.account.behind(p) && !p.held(now) {
		i := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if !p.serve(now, i) { // they were too late
			p.idle = append(p.idle, i)
			return
		}
		p.rise(now, p.inTime(now, p.level+1))
	}
}

// ready reports whether there is an idle instance that may be used.
func (p *Pool[I, W]) ready() bool {
	return len(p.idle) > 0 && p.account.used() < p.account.Max && p.account.runs()
}

// held reports whether those in line are to wait for those that run, though an instance is
// ready: these are a crowd, and likely to come to all in line within a crush. Starts, under way
// or not, are nothing to go by here, and who has a deadline soon is not held.
func (p *Pool[I, W]) held(now time.Duration) bool {
	if !p.crowded(now) || p.pace.of(p.line.n-p.settling, p.running) > crush {
		return false
	}
	until := p.patience(crush)
	if d := p.line.first().waiting().deadline; d != Never {
		until = min(until, d-crush)
	}
	if now < until {
		p.by(until)
		return true
	}
	return false
}

// giveUp refuses those that have waited for as long as anybody may, without an
// instance that could come to them: the node has had no place all the while, or the
// function's other instances keep it.
func (p *Pool[I, W]) giveUp(now time.Duration) {
	for p.line.n > 0 {
		if at := max(p.line.first().waiting().since, p.bareAt) + p.cfg.QueueWait; now < at {
			p.by(at)
			return
		}
		reason := NoPlace
		if !p.starved {
			reason = TooLong
		}
		p.host.Refuse(p.line.pop(), Refusal{reason, time.Second})
	}
}

// short reports whether one more instance is worth its start: whether the last in
// line would wait for longer than that takes. It is counted on that those in
// line are served at the pace that was seen, and that an instance that has answered
// is free soon; but not for longer than a start would have taken (see patience). So
// nobody waits for more than twice what the better choice had been, whatever runs
// take, where they are not short.
func (p *Pool[I, W]) short(now time.Duration) bool { return p.shortWith(now, p.starting) }

// Excess reports whether one of the starts that the host has not yet begun is worth
// nothing any more: those that are busy, or the other starts, are sooner. The host
// may let it be, and tell with Canceled.
func (p *Pool[I, W]) Excess(now time.Duration) bool {
	return p.demanded > 0 && !p.shortWith(now, p.starting-1)
}

func (p *Pool[I, W]) shortWith(now time.Duration, starting int) bool {
	n := p.line.n - starting*p.cfg.Concurrency
	if n <= 0 {
		return false
	}
	start, serve := p.wouldTake(now), p.running
	if p.crowded(now) {
		start = max(start, crush)
	}
	if serve == 0 {
		serve = starting * p.cfg.Concurrency
	}
	patient := p.patience(start)
	if !p.pace.known() && n > p.settling {
		patient = p.line.first().waiting().since + hesitation
	}
	switch {
	case serve == 0 || now >= patient:
		return true
	case !p.pace.known() || p.pace.of(n-p.settling, serve) <= start:
		p.by(patient)
		return false
	default:
		return true
	}
}

// hesitation is how long is waited for another's start or run before anything is known
// of how long they take: what they do at least. Callers that come to a new function at the same moment
// may all be served by one instance before a second has started, or each may need its own.
const hesitation = 5 * time.Millisecond

// patience is when it is not counted on any more that those that are busy, or start, serve
// the first in line soon. Where many runs fit into a start, and somebody is served all
// the while, that is later: what is short then are processors as a rule, of which
// another instance brings none, and takes some.
func (p *Pool[I, W]) patience(start time.Duration) time.Duration {
	since := p.line.first().waiting().since
	switch {
	case p.running == 0:
		return since + 2*start // they start first
	case p.pace.known() && brief*p.pace.shortest() < start:
		return min(max(since, p.freed)+start, since+brief*start)
	default:
		return since + start
	}
}

// brief is how many runs fit into a start where runs are short.
const brief = 16

// crowded reports whether another instance in use would bring nothing, and only take
// processor time from those that are: no processor is idle, as many run as there are
// processors, without those that are known to last, and what they do is compute. A line
// that is full is no place to wait in.
func (p *Pool[I, W]) crowded(now time.Duration) bool {
	return p.cfg.Processors > 0 && p.running-p.last(now) >= p.cfg.Processors && p.account.Waiting() < p.account.Queue &&
		p.computes > 0 && computing*time.Duration(p.computes) >= p.best.shortest() && p.host.Full()
}

// last is how many of those that run are known to last by now.
func (p *Pool[I, W]) last(now time.Duration) int {
	if now-max(p.freed, p.standing.Last) >= crush {
		return p.running
	}
	return p.lasting
}

const (
	computing = 4                     // the shortest of many runs is at most so many times what runs compute, where they do little else; in a crowd few are short
	crush     = 50 * time.Millisecond // what a start counts for at the least where processors are short, and what the use of one that is idle counts for
)

// wouldTake is how long a start would take now: as those of late did, or if there
// were none, as one does that nothing stands in the way of. After a burst the average
// is high, and would stay so for as long as none is begun for that.
func (p *Pool[I, W]) wouldTake(now time.Duration) time.Duration {
	if now-p.startedAt > late {
		return p.starts.shortest()
	}
	return time.Duration(p.cold)
}

// late is how long starts say something of what the next will take.
const late = time.Second / 2

// expect predicts how long the nth in line waits. While an instance is ready nobody is refused
// for that.
func (p *Pool[I, W]) expect(now time.Duration, n int) time.Duration {
	if p.ready() {
		return 0
	}
	cold := time.Duration(p.cold)
	behind := n - p.starting*p.cfg.Concurrency - p.settling
	if behind <= 0 {
		return cold
	}
	if p.running == 0 && p.starting == 0 || p.run == 0 {
		return cold
	}
	served := max(p.running, 1) + p.starting*p.cfg.Concurrency
	wait := time.Duration(float64(n) * float64(p.run) / float64(served))
	if p.may(now) {
		return min(wait, cold)
	}
	return wait
}

// may reports whether a start is allowed, as far as that is the pool's to say.
func (p *Pool[I, W]) may(now time.Duration) bool {
	return p.account.instances() < p.account.Max && p.allowed(now)
}

// allowed reports whether one is that has a place among the function's.
func (p *Pool[I, W]) allowed(now time.Duration) bool {
	a := p.account
	if p.closed || p.starved || a.Calls > 0 && a.running()+p.starting*p.cfg.Concurrency >= a.Calls {
		return false
	}
	if now < p.backOff {
		p.by(p.backOff)
		return false
	}
	if a.Rate > 0 {
		if a.tokens.fill(now, a.Rate, a.Burst); a.tokens.tokens < 1 {
			p.by(a.tokens.next(a.Rate))
			return false
		}
	}
	return true
}

// start begins one instance, if that is allowed.
func (p *Pool[I, W]) start(now time.Duration, why Cause) bool {
	if !p.may(now) {
		return false
	}
	if !p.host.Start(why) {
		p.starved = p.starved || why == Demand
		return false
	}
	if p.account.Rate > 0 {
		p.account.tokens.tokens--
	}
	p.live++
	p.starting++
	return true
}

// hopeless reports whether the code crashes and nothing is there that could serve.
func (p *Pool[I, W]) hopeless(now time.Duration) bool {
	return now < p.backOff && p.live == 0
}
