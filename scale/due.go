package scale

import "time"

// Next returns when the pool wants [Pool.Due] to be called, or Never. It may be
// too early, never too late: a pool that is always busy moves it at most once in
// a while, and not with each invocation.
func (p *Pool[I, W]) Next() time.Duration { return p.due }

// by has the pool asked again at t at the latest.
func (p *Pool[I, W]) by(t time.Duration) { p.due = min(p.due, t) }

// Due does what time brings: it ends and freezes idle instances, starts some
// ahead, and starts more for who waits for longer than was predicted. It returns
// [Pool.Next].
func (p *Pool[I, W]) Due(now time.Duration) time.Duration {
	p.due = Never
	switch {
	case p.crashes == 0:
	case now < p.forgive:
		p.by(p.forgive)
	case p.starting == 0: // or that is still to be seen
		p.crashes = 0
	}
	p.provide(now)
	p.trim(now)
	p.ahead(now)
	p.freeze(now)
	return p.due
}

// trim ends the idle instances that are not worth their memory any more.
func (p *Pool[I, W]) trim(now time.Duration) {
	for len(p.idle) > 0 {
		want, until := p.want(p.live, now)
		if want {
			p.by(until)
			return
		}
		p.endIdle()
	}
}

// retryAhead is when a start ahead is tried again for which there was no place.
const retryAhead = 5 * time.Second

// content reports whether nobody is in line but those for whom an instance starts. The
// others are better off without one, and so are those who come later.
func (p *Pool[I, W]) content() bool { return p.line.n <= p.starting*p.cfg.Concurrency }

// ahead starts instances that somebody is likely to want soon: where the last start
// crashed, one at first.
func (p *Pool[I, W]) ahead(now time.Duration) {
	for p.content() && p.account.instances() < p.account.Max && (p.crashes == 0 || p.starting == 0) {
		want, until := p.want(p.live+1, now)
		if !want {
			p.by(until)
			return
		}
		why := Forecast
		if p.live < p.cfg.Min {
			why = Minimum
		}
		if !p.start(now, why) {
			p.spurned = now + retryAhead
			p.by(p.spurned)
			return
		}
	}
}

// freeze freezes what has been idle for long enough.
func (p *Pool[I, W]) freeze(now time.Duration) {
	if p.cfg.FreezeAfter == 0 {
		return
	}
	for _, i := range p.idle {
		s := i.pooled()
		if s.frozen {
			continue
		}
		if at := s.idleSince + p.cfg.FreezeAfter; now < at {
			p.by(at)
			continue
		}
		s.frozen = true
		p.host.Freeze(i)
	}
}

// want says whether there is to be an instance of a level now, and until when
// that holds. One that is wanted within the time of a start is wanted now.
func (p *Pool[I, W]) want(level int, now time.Duration) (want bool, until time.Duration) {
	switch {
	case p.retired || level > p.account.Max:
		return false, Never
	case level <= p.cfg.Min:
		return true, Never
	case (level-1)*p.cfg.Concurrency < p.forecast.calls(now):
		return true, p.forecast.until
	case level > len(p.fell) || p.fell[level-1] < 0:
		return false, Never
	}
	fell, cold := p.fell[level-1], time.Duration(p.cold)
	want, until = p.cfg.Policy.Want(level, now-fell, Cost{Cold: cold, GB: p.standing.GB})
	switch {
	case until == Never:
		return want, Never
	case want:
		return true, fell + until
	case fell+until-cold <= now:
		return true, fell + until
	}
	return false, fell + until - cold
}

// foresee makes a forecast for an invocation that has just arrived, and has
// instances started if it is of more than there are. None is started for those that
// would hardly wait without it, as runs are short, nor where processors are full: it
// would take these from who runs.
func (p *Pool[I, W]) foresee(now time.Duration) {
	if !p.cfg.Forecast || p.cold == 0 || p.run == 0 {
		return
	}
	cold, have := time.Duration(p.cold), p.live*p.cfg.Concurrency
	p.forecast.arrived(now, cold)
	calls := min(p.forecast.of(p.running+p.line.n, time.Duration(p.run)), p.account.Max*p.cfg.Concurrency)
	if p.account.Calls > 0 {
		calls = min(calls, p.account.Calls)
	}
	if more := calls - have; more > 0 && (p.pace.of(more, max(p.running, 1)) < cold/worthwhile || p.host.Full()) {
		calls = have
	}
	p.forecast.hold(now, calls)
	if p.forecast.calls(now) > have && p.content() && now >= p.spurned && p.account.instances() < p.account.Max {
		p.by(now)
	}
}

// worthwhile is which part of a start has to be saved by having it made ahead.
const worthwhile = 8

// inTime reports whether there would be an instance of a level even if none had been
// kept: whether it was foreseen before a start's time.
func (p *Pool[I, W]) inTime(now time.Duration, level int) bool {
	ago := p.forecast.ago(now, (level-1)*p.cfg.Concurrency+1)
	return ago > 0 && ago >= time.Duration(p.cold)
}

// see makes room for what is known of a level.
func (p *Pool[I, W]) see(level int) {
	for len(p.fell) < level {
		p.fell = append(p.fell, -1)
	}
}

// rise tells that one more instance is in use, or starts for somebody. It was not
// foreseen in time if somebody waits.
func (p *Pool[I, W]) rise(now time.Duration, foreseen bool) {
	p.level++
	p.see(p.level)
	if fell := p.fell[p.level-1]; fell >= 0 {
		p.cfg.Policy.Used(p.level, now-fell, foreseen)
	}
}

// fall tells that one fewer is.
func (p *Pool[I, W]) fall(now time.Duration) {
	p.fell[p.level-1] = now
	p.level--
}
